#!/bin/bash
# Linux 6.18.
# Expected: the request that creates a veth pair (RTM_NEWLINK) has flags of both ends, ifi_flags of its own ifinfomsg and of that in
#           VETH_INFO_PEER: IFF_UP in one, in the other, or in both, creates ends that are up, or the flags have no effect.
# Found: the flag of the first end holds.  With the peer's, the whole request is refused, with ENOTCONN, a socket's error: the peer
#        is set up while it has no other end yet, and a veth without one cannot be opened.  So each pair needs a second request
#        for its peer; or the end that is to be up is the first, and the one in the container the peer.
# Needs python3, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
cat >seen.py <<'P'
import errno, socket, struct

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, IFF_UP = 16, 17, 18, 1
REQUEST_ACK, CREATE_EXCL = 0x5, 0x600
IFLA_IFNAME, IFLA_LINKINFO, INFO_KIND, INFO_DATA, VETH_INFO_PEER, NESTED = 3, 18, 1, 2, 1, 0x8000
INFO = struct.Struct("=BxHiII")  # ifinfomsg

def attribute(kind, content):
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)

def link(name, up):
    return INFO.pack(0, 0, 0, up, up) + attribute(IFLA_IFNAME, name + b"\0")

def answer(kind, flags, body):
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    return sock.recv(65536)

def created(first, peer):
    data = attribute(VETH_INFO_PEER | NESTED, link(b"peer", peer))
    info = attribute(INFO_KIND, b"veth\0") + attribute(INFO_DATA | NESTED, data)
    reply = answer(RTM_NEWLINK, REQUEST_ACK | CREATE_EXCL, link(b"first", first) + attribute(IFLA_LINKINFO | NESTED, info))
    return -struct.unpack_from("=i", reply, 16)[0]

def is_up(name):
    reply = answer(RTM_GETLINK, 1, link(name, 0))
    return bool(INFO.unpack_from(reply, 16)[3] & IFF_UP)

with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
    sock.bind((0, 0))
    for flags in ((0, 0), (1, 0), (0, 1), (1, 1)):
        error = created(*flags)
        state = errno.errorcode[error] if error else "up: " + ", ".join(n for n in ("first", "peer") if is_up(n.encode()))
        print(f"IFF_UP of the first {flags[0]}, of the peer {flags[1]}: {state}".rstrip(), flush=True)
        if not error:
            answer(RTM_DELLINK, REQUEST_ACK, link(b"first", 0))
P
unshare --net python3 seen.py | tee seen
cat >found <<'S'
IFF_UP of the first 0, of the peer 0: up:
IFF_UP of the first 1, of the peer 0: up: first
IFF_UP of the first 0, of the peer 1: ENOTCONN
IFF_UP of the first 1, of the peer 1: ENOTCONN
S
diff found seen || { echo "this has changed"; exit 1; }
