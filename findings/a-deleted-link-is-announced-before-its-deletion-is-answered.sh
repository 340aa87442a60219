#!/bin/bash
# Linux 6.18; pyroute2 0.9.5 of PyPI.
# Expected: who requests the deletion of a veth by netlink has the answer when everybody else learns of it: RTM_DELLINK is
#           announced at the end of the work.
# Found: the link is gone for every look-up, and announced to the group of links, many milliseconds before the answer: the
#        kernel then waits for RCU grace periods and for the last references (netdev_run_todo), and answers after that.  A
#        program that deletes links one after the other, and waits for each answer, spends most of its time so; the
#        announcement is the earlier sign, and as sure.
# Needs python3 with venv, iproute2, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check pyroute2==0.9.5
cat >seen.py <<'P'
import socket, statistics, struct, sys, threading, time
from importlib.metadata import version
from pyroute2 import IPRoute

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, NLMSG_ERROR = 16, 17, 18, 2
HEAD, INFO = struct.Struct("=IHHII"), struct.Struct("=BxHiII")

def request(kind, index):
    """An answer, or the link, is what comes back."""
    return HEAD.pack(HEAD.size + INFO.size, kind, 5, 1, 0) + INFO.pack(0, 0, index, 0, 0)

def opened(groups):
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.bind((0, groups))
    return made

def once(ipr):
    ipr.link("add", ifname="left", kind="veth", peer={"ifname": "right"})
    for name in ("left", "right"):
        ipr.link("set", index=ipr.link_lookup(ifname=name)[0], state="up")
    time.sleep(0.2)
    index, listener, asked, looks, answered = socket.if_nametoindex("left"), opened(1), opened(0), opened(0), []
    def delete():  # on a thread: the kernel does all of it in send(2)
        asked.send(request(RTM_DELLINK, index))
        asked.recv(4096)
        answered.append(time.perf_counter())
    begin = time.perf_counter()
    waiting = threading.Thread(target=delete)
    waiting.start()
    while True:
        got = listener.recv(65536)
        if HEAD.unpack_from(got)[1] == RTM_DELLINK and INFO.unpack_from(got, HEAD.size)[2] == index:
            break
    announced = time.perf_counter()
    looks.send(request(RTM_GETLINK, index))
    gone = HEAD.unpack_from(looks.recv(65536))[1] == NLMSG_ERROR
    early = not answered
    waiting.join()
    for each in (listener, asked, looks):
        each.close()
    return gone and early, (announced - begin) * 1000, (answered[0] - begin) * 1000

with IPRoute() as ipr:
    found = [once(ipr) for _ in range(15)]
first, last = (statistics.median(each[n] for each in found) for n in (1, 2))
print(f"pyroute2 {version('pyroute2')}: announced and not found any more after {first:.1f} ms, answered after "
      f"{last:.1f} ms (medians of {len(found)}); announced first: {sum(e[0] for e in found)} times")
sys.exit(sum(each[0] for each in found) <= 10)
P
unshare --net env/bin/python seen.py || { echo "this has changed"; exit 1; }
