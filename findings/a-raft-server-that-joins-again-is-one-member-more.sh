#!/bin/bash
# ovsdb-server 3.1.0 of Debian 12 (openvswitch-switch).
# Expected: a server of a RAFT cluster that lost its disk and joins again at its old address takes the place of its former self,
#           or is refused, since an address belongs to one server.
# Found: it is added as one more: the cluster has two members of one address, and the former one, which can never answer, counts
#        for the quorum.  Three of four are needed then, so that three servers of which one was replaced like this survive the
#        loss of none, where they had survived that of one, until `cluster/kick` removes the former self.
# Needs ovsdb-server, ovsdb-tool, ovs-appctl.  Exit 0 as long as this holds.
set -eu
ovsdb-server --version | head -n 1
D=$(mktemp -d)
export OVS_RUNDIR=$D OVS_LOGDIR=$D
end() { for p in "$D"/*.pid; do [ -e "$p" ] && kill -9 "$(cat "$p")" 2>/dev/null; done; rm -rf "$D"; }
trap end EXIT
cd "$D"
echo '{"name": "Things", "version": "1.0.0", "tables": {"Thing": {"columns": {"name": {"type": "string"}}, "isRoot": true}}}' >schema
run() { ovsdb-server --detach --no-chdir --pidfile="$D/$1.pid" --unixctl="$D/$1.ctl" --log-file="$D/$1.log" -vconsole:off \
            --remote="punix:$D/$1.sock" "$D/$1.db" 2>>"$D/err"; }
status() { ovs-appctl -t "$D/s1.ctl" cluster/status Things; }
joined() { for _ in $(seq 200); do ovs-appctl -t "$D/$1.ctl" cluster/status Things | grep -q '^Status: cluster member' && return; sleep 0.1; done; return 1; }
ovsdb-tool create-cluster s1.db schema "unix:$D/s1.raft"
run s1; joined s1
for n in 2 3; do
    ovsdb-tool join-cluster "s$n.db" Things "unix:$D/s$n.raft" "unix:$D/s1.raft"
    run "s$n"; joined "s$n"
done
members() { status | sed -n '/^Servers:/,$p' | grep -c "unix:$D/"; }
echo "three servers: $(members) members"
kill -9 "$(cat s3.pid)"
while kill -0 "$(cat s3.pid)" 2>/dev/null; do sleep 0.05; done
rm -f s3.db .s3.db.~lock~ s3.pid
ovsdb-tool join-cluster s3.db Things "unix:$D/s3.raft" "unix:$D/s1.raft"
run s3; joined s3
same=$(status | sed -n '/^Servers:/,$p' | grep -c "unix:$D/s3.raft")
echo "after the third had lost its disk, and joined at its address: $(members) members, $same of one address"
[ "$(members)" = 4 ] && [ "$same" = 2 ] || { echo "this has changed"; exit 1; }
