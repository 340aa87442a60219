#!/bin/bash
# OVN 23.03.1, Open vSwitch 3.1.0 with datapath netdev (Debian 12), on Linux 6.18.
# Expected: an address set that an ACL names cannot be deleted, as a set of nftables that a rule names; or what the ACL drops stays
#           dropped.  And an ACL with a set that is not there is refused.
# Found: ovn-nbctl deletes it with exit status 0, and `--wait=hv sync` succeeds: every host has acted.  From then on the ACL is not
#        in force, and what it dropped gets through; the same where the ACL is made before its set.  All there is to see is a
#        warning in ovn-controller's log, that a match cannot be parsed.  Where ACLs allow, and one drops the rest, it is safe.
# Needs Debian 12 (amd64) with apt, the libraries of ovn-host and openvswitch-switch, and root for namespaces of its
# own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q ovn-central=23.03.1-1~deb12u2 ovn-host=23.03.1-1~deb12u2 ovn-common=23.03.1-1~deb12u2 \
    openvswitch-switch=3.1.0-2+deb12u1 openvswitch-common=3.1.0-2+deb12u1 iproute2=6.1.0-3 busybox-static >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PWD/root/sbin:$PWD/root/usr/bin:$PWD/root/usr/sbin:$PWD/root/usr/lib/openvswitch-switch:$PATH
export OVS_RUNDIR=$PWD OVS_LOGDIR=$PWD OVN_RUNDIR=$PWD OVN_LOGDIR=$PWD
mount -t tmpfs tmpfs /run
database() { # NAME SCHEMA: a server of it at NAME.sock
    ovsdb-tool create "$1.db" "root/usr/share/$2.ovsschema"
    ovsdb-server "$1.db" --remote="punix:$1.sock" --unixctl="$1.ctl" --log-file="$1.log" -vconsole:off 2>>err &
    until [ -S "$1.sock" ]; do sleep 0.1; done
}
vsctl() { ovs-vsctl --db=unix:local.sock --timeout=30 "$@"; }
nbctl() { ovn-nbctl --db=unix:nb.sock --timeout=30 "$@"; }
database local openvswitch/vswitch
database nb ovn/ovn-nb
database sb ovn/ovn-sb
vsctl --no-wait init -- set open_vswitch . external_ids:system-id=host external_ids:ovn-remote="unix:$PWD/sb.sock" \
    external_ids:ovn-encap-type=geneve external_ids:ovn-encap-ip=127.0.0.1 external_ids:ovn-bridge-datapath-type=netdev
ovs-vswitchd unix:local.sock --unixctl=switch.ctl --log-file=switch.log -vconsole:off 2>>err &
ovn-northd --ovnnb-db=unix:nb.sock --ovnsb-db=unix:sb.sock --unixctl=northd.ctl --log-file=northd.log -vconsole:off 2>>err &
ovn-controller "unix:$PWD/local.sock" --log-file=controller.log -vconsole:off 2>>err &
vsctl wait-until bridge br-int
nbctl ls-add sw
for n in 1 2; do
    nbctl lsp-add sw "port$n" -- lsp-set-addresses "port$n" "02:00:00:00:00:0$n 10.9.0.$n"
    ip netns add "nk-$n"
    ip link add "port$n" type veth peer name eth0 netns "nk-$n"
    ip link set "port$n" up
    ip -n "nk-$n" link set eth0 address "02:00:00:00:00:0$n" up
    ip -n "nk-$n" addr add "10.9.0.$n/24" dev eth0
    vsctl add-port br-int "port$n" -- set interface "port$n" external_ids:iface-id="port$n"
    nbctl wait-until logical_switch_port "port$n" up=true
done
asked() { ip netns exec nk-1 root/bin/busybox ping -c 3 -w 6 -q 10.9.0.2 >/dev/null && echo arrives || echo dropped; }
try() { # WHAT COMMAND...: then what is on every host
    what=$1 status=0
    shift
    "$@" >/dev/null || status=$?
    nbctl --wait=hv sync || status="$status, sync $?"
    echo "$what: status $status, a packet $(asked)"
}
try 'no ACL' true
try 'an ACL with a set that is not there' nbctl acl-add sw to-lport 100 'ip4.src == $hosts' drop
try 'the set is made' nbctl create address_set name=hosts addresses=10.9.0.1
try 'the set is emptied' nbctl clear address_set hosts addresses
try 'the set is filled' nbctl set address_set hosts addresses=10.9.0.1
try 'the set is deleted' nbctl destroy address_set hosts
nbctl acl-list sw | sed 's/^ *//'
grep -q 'WARN.*error parsing match' controller.log && echo 'in the log of ovn-controller: error parsing match'
S
unshare --net --mount --pid --fork --kill-child --mount-proc bash steps | tee seen
cat >found <<'S'
no ACL: status 0, a packet arrives
an ACL with a set that is not there: status 0, a packet arrives
the set is made: status 0, a packet dropped
the set is emptied: status 0, a packet arrives
the set is filled: status 0, a packet dropped
the set is deleted: status 0, a packet arrives
to-lport   100 (ip4.src == $hosts) drop
in the log of ovn-controller: error parsing match
S
diff found seen || { echo "this has changed"; exit 1; }
