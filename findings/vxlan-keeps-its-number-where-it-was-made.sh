#!/bin/bash
# Linux 6.18; iproute2 6.1.0 (Debian 12).
# Expected: once a VXLAN device was moved to another namespace, one of the same number and port can be made where it was, as
#          with a bridge, a TAP device or a veth pair of that name.
# Found: it cannot, "A VXLAN device with the specified VNI already exists": the device goes on sending and receiving in the
#        namespace in which it was made, and keeps its number there, until it is deleted where it is, or moved back.  So a
#        program that repairs links, and cannot enter that namespace, cannot make it anew.
# Needs Debian 12 (amd64) with apt, and root for namespaces of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 >/dev/null
dpkg -x iproute2_*.deb root
cat >steps <<'S'
set -eu
ip() { root/bin/ip "$@"; }
mount -t tmpfs tmpfs /run
ip netns add other
make() { ip link add name "$1" type vxlan id 7 dstport 6784 2>&1 && echo made; }
make v
ip link set v netns other
make v || true
ip -n other link del v
make v
S
unshare --net --mount bash steps | tee seen
printf '%s\n' 'made' 'Error: A VXLAN device with the specified VNI already exists.' 'made' |
    diff - seen || { echo "this has changed"; exit 1; }
