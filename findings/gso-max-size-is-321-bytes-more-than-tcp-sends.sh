#!/bin/bash
# Linux 6.18; iproute2 6.1.0, Python 3.11 (Debian 12).
# Expected: with gso_max_size 62000 and an MTU of 8900, TCP's frames have seven segments of 8848 bytes: 61988 bytes with all
#          headers but Ethernet's, which is below the limit.
# Found: six.  TCP takes the longest header that it might have, and one byte, off the limit before it counts segments, some
#        320 bytes, so that seven are sent from 62600 on.  So a limit that is chosen for what a tunnel carries at once
#        has to be that much larger, or one segment in seven is lost to it.
# Needs Debian 12 (amd64) with apt and python3, and root for namespaces of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iproute2=6.1.0-3 >/dev/null 2>&1
for f in *.deb; do dpkg -x "$f" root; done
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PATH
mount -t tmpfs tmpfs /run && mount -t sysfs sysfs /sys
ip netns add other
ip link add name near mtu 8900 type veth peer name far mtu 8900 netns other
ip addr add 10.1.1.1/24 dev near && ip link set near up
ip -n other addr add 10.1.1.2/24 dev far && ip -n other link set far up
packets() { cat /sys/class/net/near/statistics/tx_packets; }
for limit in 62000 62600; do
    ip link set near gso_max_size "$limit"
    ip netns exec other timeout 60 python3 -c '
import socket
with socket.create_server(("10.1.1.2", 7000)) as made, made.accept()[0] as here:
    while here.recv(1 << 20): pass' &
    before=$(packets)
    timeout 60 python3 -c '
import socket, time
while True:
    try:
        there = socket.create_connection(("10.1.1.2", 7000))
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
for _ in range(600): there.sendall(bytes(1_000_000))
there.close()'
    wait
    echo "$limit: $(((600000000 / ($(packets) - before) + 4424) / 8848)) segments"
done
S
unshare --net --mount bash steps | tee seen
printf '%s\n' '62000: 6 segments' '62600: 7 segments' | diff - seen || { echo "this has changed"; exit 1; }
