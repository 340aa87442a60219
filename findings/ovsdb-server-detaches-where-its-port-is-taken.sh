#!/bin/bash
# ovsdb-server 3.1.0 of Debian 12 (openvswitch-switch).
# Expected: `ovsdb-server --detach --remote=ptcp:PORT:IP` fails where the port is taken: --detach returns once the server serves.
# Found: it exits with 0, the server runs, and serves on its other remotes; that one is missing is in its log only.  It takes the
#        port by itself when that is free, maybe seconds later: whoever starts it has to look whether it listens.
# Needs ovsdb-server, ovsdb-tool, ss, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
ovsdb-server --version | head -n 1
unshare --net bash -eu <<'P' || { echo "this has changed"; exit 1; }
D=$(mktemp -d)
export OVS_RUNDIR=$D OVS_LOGDIR=$D
end() { cat "$D"/*.pid 2>/dev/null | xargs -r kill 2>/dev/null || true; rm -rf "$D"; }
trap end EXIT
ip link set lo up
echo '{"name": "Things", "version": "1.0.0", "tables": {}}' >"$D/schema"
start() { ovsdb-tool create "$D/$1.db" "$D/schema"
          ovsdb-server --detach --no-chdir --pidfile="$D/$1.pid" --unixctl="$D/$1.ctl" --log-file="$D/$1.log" -vconsole:off \
              --remote="punix:$D/$1.sock" --remote=ptcp:6641:127.0.0.1 "$D/$1.db" 2>>"$D/err"; }
start one
status=0
start two || status=$?
echo "the second server of a taken port: exit status $status"
grep -o 'ptcp:6641.*' "$D/two.log" | head -n 1
users() { ss -Htlnp "sport = :6641" | grep -c "pid=$1,"; }
two=$(cat "$D/two.pid")
before=$(users "$two" || true)
kill "$(cat "$D/one.pid")"
for _ in $(seq 200); do after=$(users "$two" || true); [ "$after" = 0 ] || break; sleep 0.1; done
echo "it listens: before the first one ended $before, after it $after"
[ "$status" = 0 ]
ovsdb-client list-dbs "unix:$D/two.sock" | grep -q Things
[ "$before$after" = 01 ]
P
