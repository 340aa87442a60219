#!/bin/bash
# Open vSwitch 3.1.0 with the schema of OVN 23.03.1's southbound database (Debian 12).
# Expected: a `select` (RFC 7047, 5.2.2) of rows whose column has a value that no row can have, finds none.
# Found: where the value is outside of the column's range in the schema (tunnel_key begins with 1) the operation is an
#        error, "constraint violation", and with it the operations after it in that transaction are not carried out.  Who looks up
#        several numbers of a packet at once, of which one is 0 since it is not decided yet, gets the names of none behind it.
# Needs Debian 12 (amd64) with apt, and the libraries of openvswitch-common.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'kill "$(cat "$D/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$D"' EXIT
cd "$D"
apt-get download -q ovn-central=23.03.1-1~deb12u2 openvswitch-common=3.1.0-2+deb12u1 openvswitch-switch=3.1.0-2+deb12u1 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
PATH=$PWD/root/usr/bin:$PWD/root/usr/sbin:$PATH
ovsdb-tool create sb.db root/usr/share/ovn/ovn-sb.ovsschema
ovsdb-server sb.db --remote="punix:$D/sb.sock" --unixctl="$D/sb.ctl" --pidfile="$D/pid" --detach --log-file="$D/sb.log" -vconsole:off 2>/dev/null
ask() { ovsdb-client transact "unix:$D/sb.sock" "[\"OVN_Southbound\",$1]"; }
by_key() { echo "{\"op\":\"select\",\"table\":\"Datapath_Binding\",\"where\":[[\"tunnel_key\",\"==\",$1]],\"columns\":[\"tunnel_key\"]}"; }
ask '{"op":"insert","table":"Datapath_Binding","row":{"tunnel_key":5}}' >/dev/null
{
    echo "5 and 6: $(ask "$(by_key 5),$(by_key 6)")"
    echo "0: $(ask "$(by_key 0)" | grep -o '"error":"[a-z ]*"')"
    echo "0, then 5: $(ask "$(by_key 0),$(by_key 5)" | grep -o '"error":"[a-z ]*"\|"rows":[^}]*}\|,null' | tr '\n' ' ')"
} | tee seen
cat >found <<'S'
5 and 6: [{"rows":[{"tunnel_key":5}]},{"rows":[]}]
0: "error":"constraint violation"
0, then 5: "error":"constraint violation" ,null 
S
diff found seen || { echo "this has changed"; exit 1; }
