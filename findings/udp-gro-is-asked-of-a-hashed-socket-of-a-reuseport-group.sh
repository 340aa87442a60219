#!/bin/bash
# Linux 6.18; iproute2 6.1.0, ethtool 6.1 (Debian 12).
# Expected: two UDP sockets of one port (SO_REUSEPORT), and a program (SO_ATTACH_REUSEPORT_CBPF) that chooses the second one for
#          every datagram. With UDP_GRO set on it, which gets all datagrams, trains of them arrive joined, from whichever
#          address they come: nothing is ever delivered to the first socket, so its options do not matter.
# Found: from about half of all source ports each datagram arrives by itself. Where the kernel decides whether to join, it
#        looks up the socket without a packet, so the program is not run, and takes one of the group by the hash of the
#        addresses: UDP_GRO of that one counts, then the program chooses who gets the datagrams. With UDP_GRO on both all
#        trains are joined.
# Needs Debian 12 (amd64) with apt and python3, and root for namespaces of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 ethtool=1:6.1-1 libmnl0 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
cat >steps.py <<'S'
import ctypes, os, socket, struct, subprocess

SO_ATTACH_REUSEPORT_CBPF, UDP_SEGMENT, UDP_GRO = 51, 103, 104
SIZE, TRAIN, PORTS = 1000, 20, range(20000, 20032)
os.environ["LD_LIBRARY_PATH"] = os.path.abspath("root/usr/lib/x86_64-linux-gnu")

def run(*argv):
    subprocess.run(argv, check=True)

def ip(*argv):
    run("root/bin/ip", *argv)

def bound(gro):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.SOL_UDP, UDP_GRO, gro)
    made.bind(("192.0.2.2", 7000))
    made.settimeout(0.05)
    return made

def second_one(sock):
    """A program of one instruction: return 1."""
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 1))
    fprog = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)

def joined(sock):
    """Whether datagrams of a train came joined; all of it is read."""
    longest = 0
    try:
        while True:
            longest = max(longest, len(sock.recv(65536)))
    except TimeoutError:
        return longest > SIZE

def ports(first, second):
    """From how many source ports trains are joined, with UDP_GRO like this on both."""
    with bound(first) as one, bound(second) as two:
        second_one(one)
        found = 0
        for port in PORTS:
            libc.setns(there, 0)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                libc.setns(here, 0)
                out.bind(("192.0.2.1", port))
                out.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
                out.sendto(bytes(SIZE * TRAIN), ("192.0.2.2", 7000))
            found += joined(two)
        one.settimeout(0.01)
        assert not joined(one)
        return found

libc = ctypes.CDLL(None)
sender = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE)
sender.stdout.readline()
here, there = (os.open(f"/proc/{pid}/ns/net", os.O_RDONLY) for pid in ("self", sender.pid))
ip("link", "add", "name", "b", "type", "veth", "peer", "name", "a", "netns", str(sender.pid))
ip("addr", "add", "192.0.2.2/24", "dev", "b")
run("root/sbin/ethtool", "-K", "b", "gro", "on")
ip("link", "set", "dev", "b", "up")
libc.setns(there, 0)
ip("addr", "add", "192.0.2.1/24", "dev", "a")
ip("link", "set", "dev", "a", "up")
run("root/sbin/ethtool", "-K", "a", "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
libc.setns(here, 0)
for gro in ((1, 1), (0, 1), (0, 0)):
    n = ports(*gro)
    share = "all" if n == len(PORTS) else "none" if not n else "some"
    print(f"UDP_GRO on the first {gro[0]}, on the second {gro[1]}: joined from {share}", flush=True)
S
unshare --net --pid --fork --kill-child --mount-proc python3 steps.py | tee seen
cat >found <<'S'
UDP_GRO on the first 1, on the second 1: joined from all
UDP_GRO on the first 0, on the second 1: joined from some
UDP_GRO on the first 0, on the second 0: joined from none
S
diff found seen || { echo "this has changed"; exit 1; }
