#!/bin/bash
# Linux 6.18; pyroute2 0.9.5 of PyPI.
# Expected: NFTA_GEN_PROC_PID of the event of a new generation (what `nft monitor` shows as "by process PID") is the pid of the
#           process that changed the rules, as getpid(2) gives it.
# Found: it is the id of the thread.  A program that changes rules on a thread other than its first, and compares with its pid
#        to leave out its own changes, takes them for another program's; `ps -p` finds nobody of that number.
# Needs python3 with venv, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check pyroute2==0.9.5
cat >seen.py <<'P'
import os, platform, socket, struct, sys, threading
from importlib.metadata import version
from pyroute2.nftables.main import NFTables

NETFILTER, GROUP, NEWGEN, PROC_PID = 12, 7, 10 << 8 | 15, 2

def author(listener):
    while True:
        got = listener.recv(65536)
        at = 0
        while at < len(got):
            size, kind = struct.unpack_from("=IH", got, at)
            inside, end = at + 20, at + size  # after nlmsghdr and nfgenmsg
            while kind == NEWGEN and inside < end:
                length, attribute = struct.unpack_from("=HH", got, inside)
                if attribute == PROC_PID:
                    return struct.unpack_from(">I", got, inside + 4)[0]
                inside += length + 3 & ~3
            at += size + 3 & ~3

def change(name, made):
    with NFTables(nfgen_family=2) as nft:
        nft.table("add", name=name)
    made.append(threading.get_native_id())

seen = []
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as listener:
    listener.bind((0, 1 << GROUP - 1))
    listener.settimeout(10)
    for name in ("first", "second"):
        ids = []
        if name == "first":
            change(name, ids)
        else:
            thread = threading.Thread(target=change, args=(name, ids))
            thread.start()
            thread.join()
        found = author(listener)
        seen.append((found == os.getpid(), found == ids[0]))
        print(f"Linux {platform.release().split('-')[0]}, pyroute2 {version('pyroute2')}, {name} thread: "
              f"{'the process' if seen[-1][0] else 'not the process'}, {'the thread' if seen[-1][1] else 'not the thread'}")
sys.exit(seen != [(True, True), (False, True)])
P
unshare --net env/bin/python seen.py || { echo "this has changed"; exit 1; }
