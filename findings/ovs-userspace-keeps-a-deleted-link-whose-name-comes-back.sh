#!/bin/bash
# Open vSwitch 3.1.0 (Debian 12), datapath netdev, on Linux 6.18.
# Expected: a link that is a port is deleted, and another of that name is made at once: ovs-vswitchd notices, since it
#          follows links by netlink, and forwards by the new one; its database shows the new one's ifindex and no error.
# Found: the database shows just that, but ovs-vswitchd goes on with its socket on the deleted link: the new one is never
#        set promiscuous, and no packet passes, until the port itself is removed and added again.  Both steps in one
#        transaction change nothing.
# Needs Debian 12 (amd64) with apt and the libraries of openvswitch-switch, and root for namespaces of its own.
# Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q openvswitch-switch=3.1.0-2+deb12u1 openvswitch-common=3.1.0-2+deb12u1 \
    iproute2=6.1.0-3 busybox-static >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
cat >steps <<'S'
set -eu
export OVS_RUNDIR=$PWD OVS_LOGDIR=$PWD OVS_DBDIR=$PWD
ip() { root/bin/ip "$@"; }
vsctl() { root/usr/bin/ovs-vsctl --db=unix:db.sock "$@"; }
mount -t tmpfs tmpfs /run
root/usr/bin/ovsdb-tool create conf.db root/usr/share/openvswitch/vswitch.ovsschema
root/usr/sbin/ovsdb-server conf.db --remote=punix:db.sock --unixctl=db.ctl --log-file=db.log 2>/dev/null &
server=$!
trap 'kill $server ${switch:-}; wait' EXIT
until [ -S db.sock ]; do sleep 0.1; done
vsctl --no-wait init
root/usr/lib/openvswitch-switch/ovs-vswitchd unix:db.sock --unixctl=sw.ctl --log-file=sw.log 2>/dev/null &
switch=$!
ip netns add guest
ip link set lo up
vsctl add-br sw -- set bridge sw datapath_type=netdev
ip addr add 10.9.0.1/24 dev sw
ip link set sw up
pair() { # as one batch: between the two ovs-vswitchd does not run
    ip -batch - <<B
$1
link add port index $2 type veth peer name eth0 netns guest
link set port up
B
    ip -n guest addr add 10.9.0.2/24 dev eth0
    ip -n guest link set eth0 up
}
asked() { ip netns exec guest root/bin/busybox ping -c 5 -w 6 -q 10.9.0.1 >/dev/null && echo passes || echo 'does not pass'; }
database() { echo "ifindex $(vsctl get interface port ifindex), error $(vsctl get interface port error)"; }
pair '' 1000
vsctl add-port sw port
echo "new: $(database): $(asked)"
kill -STOP $switch # it has other things to do for a moment
pair 'link del port' 2000
kill -CONT $switch
sleep 5
echo "its link replaced: $(database): $(asked)"
vsctl del-port port -- add-port sw port
sleep 2
echo "removed and added in one transaction: $(asked)"
vsctl del-port port
sleep 1
vsctl add-port sw port
echo "removed, then added: $(asked)"
S
unshare --net --mount bash steps | tee seen
printf '%s\n' 'new: ifindex 1000, error []: passes' 'its link replaced: ifindex 2000, error []: does not pass' \
    'removed and added in one transaction: does not pass' 'removed, then added: passes' |
    diff - seen || { echo "this has changed"; exit 1; }
