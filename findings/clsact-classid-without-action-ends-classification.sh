#!/bin/bash
# Linux 6.18; clsact, cls_u32, cls_bpf and iproute2 6.1.0 (Debian 12).
# Expected: a filter at clsact that only names a class (`classid 1:1`, no action) has nothing to decide there, for clsact
# has no classes, so that the filters after it are asked, too.
# Found: it ends classification, and the packet is accepted: a filter that drops, and comes after, is never asked.
# Needs Debian 12 (amd64) with apt, a kernel with clsact, cls_u32 and cls_bpf, and root for namespaces of its own.
# Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 busybox-static >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
cat >steps <<'S'
set -eu
ip() { root/bin/ip "$@"; }
tc() { root/sbin/tc "$@"; }
mount -t tmpfs tmpfs /run
ip netns add guest
ip link add port type veth peer name eth0 netns guest
ip addr add 10.9.0.1/24 dev port
ip link set port up
ip -n guest addr add 10.9.0.2/24 dev eth0
ip -n guest link set eth0 up
tc qdisc add dev port clsact
asked() { ip netns exec guest root/bin/busybox ping -c 1 -w 2 -q 10.9.0.1 >/dev/null && echo arrives || echo dropped; }
echo "no filter: $(asked)"
tc filter add dev port ingress pref 2 protocol ip bpf bytecode '1,6 0 0 2,' direct-action # TC_ACT_SHOT
echo "drop: $(asked)"
tc filter add dev port ingress pref 1 protocol ip u32 match u32 0 0 classid 1:1
echo "classid, then drop: $(asked)"
S
unshare --net --mount bash steps | tee seen
printf '%s\n' 'no filter: arrives' 'drop: dropped' 'classid, then drop: arrives' |
    diff - seen || { echo "this has changed"; exit 1; }
