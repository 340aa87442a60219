#!/bin/bash
# Linux 6.18; nftables 1.0.6 of Debian 12.
# Expected: close(2) of a netlink socket returns at once, all the more if nothing was ever sent on it.
# Found: while rules that were deleted are still being freed, close(2) of ANY netfilter socket of that network namespace waits for
#        it, which takes a grace period of RCU: several ms instead of some us.  A program that opens a socket for each change of
#        rules, or only to read connections beside another one's changes, pays at its close for each deletion.
# Needs python3, nft, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
nft --version >/dev/null
T=$(mktemp)
trap 'rm -f "$T"' EXIT
cat >"$T" <<'P'
import platform, socket, statistics, subprocess, sys, time

NETFILTER, ROUNDS = 12, 15

def closing():
    other = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)  # it never sends
    other.bind((0, 0))
    begin = time.perf_counter()
    other.close()
    return (time.perf_counter() - begin) * 1e6

def nft(*lines):
    subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True)

class Kept:
    """`nft -i` that stays, so that its own close is not what waits."""
    def __init__(self):
        self.process = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    def do(self, line):
        before = generation()
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while generation() == before:
            time.sleep(0.0005)

watcher = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER)
watcher.bind((0, 0))

def generation():
    import struct
    watcher.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0))  # NFT_MSG_GETGEN
    data = watcher.recv(4096)
    return struct.unpack_from(">I", data, 24)[0]

nft("add table ip t", "add chain ip t c")
kept = Kept()
plain, added, deleted = [], [], []
for _ in range(ROUNDS):
    plain.append(closing())
    kept.do("add rule ip t c drop")
    added.append(closing())
    time.sleep(0.1)
    kept.do("flush chain ip t c")
    deleted.append(closing())
    time.sleep(0.1)
kept.process.stdin.close()
kept.process.wait()
one, two, three = map(statistics.median, (plain, added, deleted))
print(f"Linux {platform.release().split('-')[0]}: close of a socket that never sent: {one:.0f} us; after a rule was added "
      f"{two:.0f} us; after one was deleted {three:.0f} us")
sys.exit(not (three > 20 * one and three > 20 * two))
P
unshare --net python3 "$T" || { echo "this has changed"; exit 1; }
