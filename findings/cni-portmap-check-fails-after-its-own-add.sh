#!/bin/bash
# containernetworking-plugins 1.1.1, iptables 1.8.9 and iproute2 6.1.0 (Debian 12).
# Expected: CHECK of portmap, with the configuration and the result that its ADD had a moment ago, and no change of rules since,
#           answers with success: CNI 0.4.0 has CHECK for what is no longer as ADD made it.
# Found: it always fails, with any addresses.  ADD makes rules of the family of each address, CHECK looks for them in the tables of
#        both.  A runtime that uses CHECK would take each container with a published port for broken.
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
plugin() { # TYPE COMMAND RESULT-OF-ADD: the configuration is the same for both commands
    ports='{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}'
    echo "{\"cniVersion\": \"0.4.0\", \"name\": \"net\", \"type\": \"$1\", \"runtimeConfig\": $ports, \"prevResult\": $3}" |
        CNI_COMMAND=$2 "$CNI_PATH/$1"
}
made() { "$1" -t nat -S | grep -c -- '-j DNAT' || true; }
given() { echo "{\"cniVersion\": \"0.4.0\", \"interfaces\": [{\"name\": \"eth0\", \"sandbox\": \"$CNI_NETNS\"}], \"ips\": [$1]}"; }
four='{"version": "4", "interface": 0, "address": "10.9.0.2/24"}' six='{"version": "6", "interface": 0, "address": "fd00::2/64"}'
for each in "$four" "$six" "$four, $six"; do
    plugin portmap ADD "$(given "$each")" >/dev/null
    status=0
    plugin portmap CHECK "$(given "$each")" >answer || status=$?
    versions=$(grep -o '"version": "."' <<<"$each" | grep -o '[46]' | xargs)
    echo "addresses of version $versions: ADD 0, rules of iptables $(made iptables), of ip6tables $(made ip6tables), CHECK $status"
    plugin portmap DEL "$(given "$each")"
    sed -n 's/.*"msg": "\(could not check [a-z0-9]* dnat\).*/\1/p' answer
done
S
unshare --net --mount bash steps | tee seen
cat >found <<'S'
addresses of version 4: ADD 0, rules of iptables 1, of ip6tables 0, CHECK 1
could not check ipv6 dnat
addresses of version 6: ADD 0, rules of iptables 0, of ip6tables 1, CHECK 1
could not check ipv4 dnat
addresses of version 4 6: ADD 0, rules of iptables 1, of ip6tables 1, CHECK 1
could not check ipv6 dnat
S
diff found seen || { echo "this has changed"; exit 1; }
