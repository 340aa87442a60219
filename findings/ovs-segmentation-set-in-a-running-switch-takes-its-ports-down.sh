#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12), datapath netdev, on Linux 6.18.
# Expected: other_config:userspace-tso-enable, whose description says that a change "requires restarting the daemon", has no effect
#           on an ovs-vswitchd that runs; nor on this one at all, since the feature is said to need a build with DPDK.
# Found: once it is set, nothing passes by any port that the running ovs-vswitchd has, not even a ping, and there is no error in the
#        database, until it is started again; then all is well, with segmentation.  Its removal does no harm to a running one.
#        So it is to be set while ovs-vswitchd does not run.
# Needs Debian 12 (amd64) with apt, the libraries of openvswitch-switch, and root for namespaces of its own.
# Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q openvswitch-switch=3.1.0-2+deb12u1 openvswitch-common=3.1.0-2+deb12u1 iproute2=6.1.0-3 ethtool=1:6.1-1 \
    libmnl0 busybox-static >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PWD/root/sbin:$PWD/root/usr/bin:$PWD/root/usr/sbin:$PWD/root/usr/lib/openvswitch-switch:$PATH
export OVS_RUNDIR=$PWD OVS_LOGDIR=$PWD
mount -t tmpfs tmpfs /run
ovsdb-tool create conf.db root/usr/share/openvswitch/vswitch.ovsschema
ovsdb-server conf.db --remote=punix:db.sock --unixctl=db.ctl -vconsole:off 2>>err &
until [ -S db.sock ]; do sleep 0.1; done
vsctl() { ovs-vsctl --db=unix:db.sock --timeout=30 "$@"; }
vsctl --no-wait init
start() { ovs-vswitchd unix:db.sock --unixctl=switch.ctl --log-file=switch.log -vconsole:off 2>>err & switch=$!; }
again() { kill $switch; wait $switch || true; start; vsctl set open_vswitch . external_ids:started="$SECONDS"; }
start
vsctl add-br sw -- set bridge sw datapath_type=netdev
for n in 1 2; do
    ip netns add "nk-$n"
    ip link add "port$n" type veth peer name eth0 netns "nk-$n"
    ip link set "port$n" up
    ip -n "nk-$n" link set eth0 up
    ip -n "nk-$n" addr add "10.9.0.$n/24" dev eth0
    ip netns exec "nk-$n" ethtool -K eth0 tx off >/dev/null
    vsctl add-port sw "port$n"
done
try() { # WHAT: does a ping pass, of five
    passes=no
    ip netns exec nk-1 busybox ping -c 5 -w 10 -q 10.9.0.2 >/dev/null && passes=yes
    echo "$1: a ping passes: $passes, errors in the database: $(vsctl --columns=error --bare list interface | grep -c . || true)"
}
try 'as it is'
vsctl set open_vswitch . other_config:userspace-tso-enable=true
try 'set'
again
try 'set, started again'
echo "log: $(grep -o 'Userspace TCP.*' switch.log | tail -n 1)"
vsctl remove open_vswitch . other_config userspace-tso-enable
try 'removed'
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
as it is: a ping passes: yes, errors in the database: 0
set: a ping passes: no, errors in the database: 0
set, started again: a ping passes: yes, errors in the database: 0
log: Userspace TCP Segmentation Offloading support enabled
removed: a ping passes: yes, errors in the database: 0
S
diff found seen || { echo "this has changed"; exit 1; }
