#!/bin/bash
# OVN 23.03.1 (Debian 12).
# Expected: a policy of a logical router, `lr-policy-add r 100 MATCH reroute NEXTHOP`, sends what it matches to NEXTHOP, as
#           `ip rule` with a table of its own does: whether the router has a route to the destination does not matter.
# Found: it does.  The policy is asked after the routes: a packet to a destination without a route is dropped before.  With a route
#        that matches, to any gateway, even one that is not there, it goes to the policy's next hop.  So a router that forwards by
#        policies alone needs a default route that is never used.
# Needs Debian 12 (amd64) with apt, and the libraries of ovn-central.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
end() { kill $(jobs -p) 2>/dev/null || true; wait || true; rm -rf "$D"; }
trap end EXIT
cd "$D"
apt-get download -q ovn-central=23.03.1-1~deb12u2 ovn-common=23.03.1-1~deb12u2 openvswitch-common=3.1.0-2+deb12u1 \
    openvswitch-switch=3.1.0-2+deb12u1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
PATH=$PWD/root/usr/bin:$PWD/root/usr/sbin:$PATH
export OVN_RUNDIR=$PWD OVN_LOGDIR=$PWD OVS_RUNDIR=$PWD OVS_LOGDIR=$PWD
for name in nb sb; do
    ovsdb-tool create $name.db root/usr/share/ovn/ovn-$name.ovsschema
    ovsdb-server $name.db --remote=punix:$name.sock --unixctl=$name.ctl -vconsole:off 2>>err &
    until [ -S $name.sock ]; do sleep 0.1; done
done
ovn-northd --ovnnb-db=unix:nb.sock --ovnsb-db=unix:sb.sock --unixctl=northd.ctl -vconsole:off 2>>err &
nbctl() { ovn-nbctl --db=unix:nb.sock --timeout=30 "$@"; }
nbctl ls-add sw -- lr-add r -- lrp-add r out 02:00:00:00:01:01 10.9.0.254/24 -- lsp-add sw to-r -- lsp-set-type to-r router \
    -- lsp-set-addresses to-r router -- lsp-set-options to-r router-port=out
for n in 1 2; do nbctl lsp-add sw "port$n" -- lsp-set-addresses "port$n" "02:00:00:00:00:0$n 10.9.0.$n"; done
sent() { # what becomes of a packet of 10.9.0.1 to 192.0.2.1
    nbctl --wait=sb sync
    ovn-trace --db=unix:sb.sock --minimal sw 'inport == "port1" && eth.src == 02:00:00:00:00:01 && eth.dst == 02:00:00:00:01:01 &&
        ip4.src == 10.9.0.1 && ip4.dst == 192.0.2.1 && ip.ttl == 64 && icmp4' |
        sed -n 's/^output("\(.*\)");/goes to \1/p' | grep . || echo 'is dropped'
}
{
    echo "nothing: $(sent)"
    nbctl lr-policy-add r 100 'ip4.src == 10.9.0.1' reroute 10.9.0.2
    echo "a policy that reroutes to port2: $(sent)"
    nbctl lr-route-add r 0.0.0.0/0 10.9.0.77
    echo "and a default route to an address that nothing has: $(sent)"
    nbctl lr-policy-del r
    echo "the route alone: $(sent)"
} | tee seen
cat >found <<'S'
nothing: is dropped
a policy that reroutes to port2: is dropped
and a default route to an address that nothing has: goes to port2
the route alone: is dropped
S
diff found seen || { echo "this has changed"; exit 1; }
