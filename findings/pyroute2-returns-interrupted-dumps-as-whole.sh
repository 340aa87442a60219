#!/bin/bash
# pyroute2 0.9.7 of PyPI, on Linux 6.18.
# Expected: a dump of links during which links come and go raises NetlinkDumpInterrupted, which is documented as "raised
#          when NLM_F_DUMP_INTR is set in the flags" and caught within the library.
# Found: nothing raises it.  A dump that the kernel marked as interrupted, in which links may be missing, is returned as
#        any other; a caller that needs all of them has to check the flags of the messages, and ask again.
# Needs root, python3 with venv, unshare.  Makes links in a network namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
python3 -m venv env
env/bin/pip install -q --disable-pip-version-check pyroute2==0.9.7
cat >dump.py <<'P'
import os, time
from importlib.metadata import version
from pyroute2 import IPRoute, NetlinkDumpInterrupted
from pyroute2.netlink import NLM_F_DUMP_INTR

with IPRoute() as ip:
    for n in range(400):
        ip.link("add", ifname=f"b{n}", kind="bridge")
pid = os.fork()
if pid == 0:  # one more comes and goes without a pause
    end = time.monotonic() + 120
    with IPRoute() as ip:
        while time.monotonic() < end:
            ip.link("add", ifname="coming", kind="bridge")
            ip.link("del", ifname="coming")
    os._exit(0)
dumps = interrupted = raised = 0
end = time.monotonic() + 60
with IPRoute() as ip:
    while time.monotonic() < end and interrupted < 3:
        try:
            links = list(ip.link("dump"))
        except NetlinkDumpInterrupted:
            raised += 1
            continue
        dumps += 1
        interrupted += any(m["header"]["flags"] & NLM_F_DUMP_INTR for m in links)
os.kill(pid, 9)
os.waitpid(pid, 0)
print(f"pyroute2 {version('pyroute2')}: {dumps} dumps returned, {interrupted} of them marked as interrupted, {raised} raised")
raise SystemExit(not (interrupted and not raised))
P
unshare --net env/bin/python dump.py
