#!/bin/bash
# containernetworking-plugins 1.1.1, iptables 1.8.9 and iproute2 6.1.0 (Debian 12).
# Expected: DEL of the bridge plugin succeeds where the container's interface has been given a second address, for all that ADD
#           made is removed; or it fails, and what remains is removed by the next DEL.
# Found: it fails, and there is nothing left: interface, address and rules are gone.  It takes the addresses from the interface, not
#        from the result of ADD, and finds the chain of the second one gone with the first.  The next DEL succeeds; but CHECK before
#        had no objection.  So a failed DEL does not show that something is left, and is to be repeated in any case.
# Needs Debian 12 (amd64) with apt, and root for namespaces of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q containernetworking-plugins=1.1.1+ds1-3+b5 iptables=1.8.9-2 libxtables12=1.8.9-2 libnftnl11=1.2.4-2 \
    iproute2=6.1.0-3 >/dev/null 2>&1
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu XTABLES_LIBDIR=$D/root/usr/lib/x86_64-linux-gnu/xtables
for name in iptables ip6tables; do ln -s ../usr/sbin/xtables-nft-multi root/bin/$name; done
cat >steps <<'S'
set -eu
PATH=$PWD/root/bin:$PATH
mount -t tmpfs tmpfs /run
ip netns add nk-guest
export CNI_PATH=$PWD/root/usr/lib/cni CNI_CONTAINERID=one CNI_NETNS=/run/netns/nk-guest CNI_IFNAME=eth0
plugin() { # COMMAND RESULT-OF-ADD
    ipam='{"type": "host-local", "dataDir": "/run/leases", "subnet": "10.9.0.0/24"}'
    echo "{\"cniVersion\": \"0.4.0\", \"name\": \"net\", \"type\": \"bridge\", \"bridge\": \"br0\", \"isGateway\": true,
           \"ipMasq\": true, \"ipam\": $ipam ${2:+, \"prevResult\": $2}}" | CNI_COMMAND=$1 "$CNI_PATH/bridge"
}
left() {
    link=$(ip -n nk-guest -o link show type veth | wc -l)
    lease=$(find /run/leases/net -name '10.*' | wc -l)
    rules=$(iptables -t nat -S | grep -c -- '^-A' || true)
    echo "$link interface, $lease address, $rules rules"
}
done_() { status=0; plugin "$1" "$result" >answer || status=$?; echo "$1 $status, left: $(left)"; }
for more in 0 1; do
    echo "addresses that ADD did not make: $more"
    result=$(plugin ADD '')
    [ $more = 0 ] || ip -n nk-guest addr add 10.9.0.200/24 dev eth0
    done_ CHECK
    done_ DEL
    done_ DEL
done
S
unshare --net --mount bash steps | tee seen
cat >found <<'S'
addresses that ADD did not make: 0
CHECK 0, left: 1 interface, 1 address, 3 rules
DEL 0, left: 0 interface, 0 address, 0 rules
DEL 0, left: 0 interface, 0 address, 0 rules
addresses that ADD did not make: 1
CHECK 0, left: 1 interface, 1 address, 3 rules
DEL 1, left: 0 interface, 0 address, 0 rules
DEL 0, left: 0 interface, 0 address, 0 rules
S
diff found seen || { echo "this has changed"; exit 1; }
