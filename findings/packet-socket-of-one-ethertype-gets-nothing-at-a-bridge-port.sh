#!/bin/bash
# Linux 6.18; iproute2 6.1.0 (Debian 12).
# Expected: packet(7): "all incoming packets of that protocol type will be passed to the packet socket before they are passed
#          to the protocols implemented in the kernel". A socket bound to an interface and ETH_P_IP gets each IPv4 packet that
#          comes in there, as one bound to ETH_P_ALL does.
# Found: so it does until the interface is enslaved to a bridge. Then it gets none of those that the bridge takes (here all), no
#        error and no hint, while the one with ETH_P_ALL gets them as before: the bridge comes between the two lists of taps. The
#        same holds where the socket was bound before.
# Needs Debian 12 (amd64) with apt and python3, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 >/dev/null
dpkg -x iproute2_*.deb root
cat >steps.py <<'S'
import socket, subprocess

ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
FRAME = b"\xff" * 6 + bytes.fromhex("020000000001") + ETH_P_IP.to_bytes(2, "big") + bytes(50)

def ip(*argv):
    subprocess.run(["root/bin/ip", *argv], check=True)

def tap(protocol):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    made.bind(("p", protocol))
    made.settimeout(0.3)
    return made

def got(sock):
    n = 0
    try:
        while True:
            frame, (_, protocol, kind, *_) = sock.recvfrom(2000)
            n += protocol == ETH_P_IP and kind != socket.PACKET_OUTGOING
    except TimeoutError:
        return n

def sent(name, *taps):
    for _ in range(5):
        out.send(FRAME)
    print(name, *(got(each) for each in taps))

ip("link", "add", "br0", "type", "bridge")
ip("link", "add", "p", "type", "veth", "peer", "name", "q")
for name in ("br0", "p", "q"):
    ip("link", "set", name, "up")
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("q", 0))
before = tap(ETH_P_ALL), tap(ETH_P_IP)
sent("by itself: ETH_P_ALL, ETH_P_IP", *before)
ip("link", "set", "p", "master", "br0")
sent("bridge port, sockets from before: ETH_P_ALL, ETH_P_IP", *before)
sent("bridge port, new sockets: ETH_P_ALL, ETH_P_IP", tap(ETH_P_ALL), tap(ETH_P_IP))
S
unshare --net python3 steps.py | tee seen
printf '%s\n' 'by itself: ETH_P_ALL, ETH_P_IP 5 5' 'bridge port, sockets from before: ETH_P_ALL, ETH_P_IP 5 0' \
    'bridge port, new sockets: ETH_P_ALL, ETH_P_IP 5 0' |
    diff - seen || { echo "this has changed"; exit 1; }
