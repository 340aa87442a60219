#!/bin/bash
# Linux 6.18; iproute2 6.1.0 (Debian 12).
# Expected: a change of a link is announced to RTNLGRP_LINK by RTM_NEWLINK, flags of a bridge's port too, whichever tool
#          made it: there is an event for `bridge link set dev p isolated on` and for `ip link set p type bridge_slave
#          isolated on` alike.
# Found: `bridge link set` is announced in a message of family AF_BRIDGE only, which has nothing of the link but its port's
#        flags.  The same flag set by `ip link ... type bridge_slave` (a message of AF_UNSPEC with IFLA_INFO_SLAVE_DATA) is
#        in force at once, and there is no event at all: a program that follows links by events does not learn of it.
# Needs Debian 12 (amd64) with apt and python3, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 >/dev/null
dpkg -x iproute2_*.deb root
cat >steps.py <<'S'
import re, socket, struct, subprocess

IP, BRIDGE = "root/bin/ip", "root/sbin/bridge"
RTMGRP_LINK, RTM_NEWLINK = 1, 16
FAMILIES = {socket.AF_UNSPEC: "AF_UNSPEC", 7: "AF_BRIDGE"}

def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

def events(*argv):
    """Families of the messages about links that come within half a second of the command."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as s:
        s.bind((0, RTMGRP_LINK))
        s.settimeout(0.5)
        run(*argv)
        found = set()
        try:
            while True:
                data = s.recv(65536)
                while data:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind == RTM_NEWLINK:
                        found.add(FAMILIES[data[16]])
                    data = data[(length + 3) & ~3:]
        except TimeoutError:
            return " ".join(sorted(found)) or "no event"

def isolated():
    return re.search(r"isolated (\w+)", run(IP, "-d", "link", "show", "p")).group(1)

run(IP, "link", "add", "name", "br0", "type", "bridge")
run(IP, "link", "add", "p", "type", "veth", "peer", "name", "q")
run(IP, "link", "set", "p", "master", "br0")
print("mtu:", events(IP, "link", "set", "p", "mtu", "1400"))
print("bridge link set:", events(BRIDGE, "link", "set", "dev", "p", "isolated", "on"), "isolated", isolated())
print("ip link set:", events(IP, "link", "set", "p", "type", "bridge_slave", "isolated", "off"), "isolated", isolated())
S
unshare --net python3 steps.py | tee seen
printf '%s\n' 'mtu: AF_UNSPEC' 'bridge link set: AF_BRIDGE isolated on' 'ip link set: no event isolated off' |
    diff - seen || { echo "this has changed"; exit 1; }
