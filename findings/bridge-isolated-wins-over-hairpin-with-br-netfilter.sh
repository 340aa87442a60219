#!/bin/bash
# Linux 6.18; bridge, br_netfilter, iptables 1.8.9 and iproute2 6.1.0 (Debian 12).
# Expected: a bridge port with hairpin on and isolated on reaches its own DNATed port by an address of the host whether
# or not iptables sees bridged frames, for the packet only returns to the port it came from.
# Found: with net.bridge.bridge-nf-call-iptables=1 it does not.  The frame is then translated while it is bridged, and
# two isolated ports, here one and the same, do not talk, hairpin or not.  With 0 the packet is routed, and comes back.
# Needs Debian 12 (amd64) with apt, a kernel with bridge and br_netfilter, and root for namespaces of its own.
# Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iptables=1.8.9-2 libxtables12=1.8.9-2 libnftnl11=1.2.4-2 iproute2=6.1.0-3 busybox-static >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu XTABLES_LIBDIR=$D/root/usr/lib/x86_64-linux-gnu/xtables
cat >steps <<'S'
set -eu
ip() { root/bin/ip "$@"; }
mount -t tmpfs tmpfs /run
ip netns add guest
inside() { ip netns exec guest root/bin/busybox "$@"; }
ip link set lo up
ip addr add 192.0.2.1/32 dev lo
ip link add br0 type bridge
ip addr add 10.9.0.1/24 dev br0
ip link add port type veth peer name eth0 netns guest
ip link set port master br0
ip link set port type bridge_slave hairpin on isolated on
ip link set port up
ip link set br0 up
ip -n guest link set lo up
ip -n guest addr add 10.9.0.2/24 dev eth0
ip -n guest link set eth0 up
ip -n guest route add default via 10.9.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
rule() { root/usr/sbin/xtables-nft-multi iptables -t nat -A "$@"; }
rule PREROUTING -d 192.0.2.1 -p tcp --dport 8080 -j DNAT --to-destination 10.9.0.2:80
rule POSTROUTING -s 10.9.0.2 -d 10.9.0.2 -j MASQUERADE
for seen in 0 1; do
    for isolated in off on; do
        echo $seen >/proc/sys/net/bridge/bridge-nf-call-iptables
        ip link set port type bridge_slave isolated $isolated
        inside timeout 5 root/bin/busybox nc -l -p 80 -e root/bin/busybox echo answer &
        sleep 0.5
        got=$(inside timeout 3 root/bin/busybox nc 192.0.2.1 8080 </dev/null || true)
        wait || true
        echo "bridge-nf-call-iptables=$seen hairpin=on isolated=$isolated: ${got:-nothing}"
    done
done
S
unshare --net --mount bash steps | tee seen
printf '%s\n' 'bridge-nf-call-iptables=0 hairpin=on isolated=off: answer' \
    'bridge-nf-call-iptables=0 hairpin=on isolated=on: answer' \
    'bridge-nf-call-iptables=1 hairpin=on isolated=off: answer' \
    'bridge-nf-call-iptables=1 hairpin=on isolated=on: nothing' | diff - seen || { echo "this has changed"; exit 1; }
