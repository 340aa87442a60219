#!/bin/bash
# iptables 1.8.9 and nftables 1.0.6 (Debian 12).
# Expected: iptables-nft-save either lists a rule that nft added to one of its tables, or says that it cannot.
# Found: of a rule that looks a port up in a set it lists the protocol and the verdict, without the set, without a word
# and with status 0.  What it prints accepts more than the kernel does, and saving and restoring it makes that so.
# Needs Debian 12 (amd64) with apt, and root for a network namespace of its own.  Exit 0 as long as this holds.
set -eu
D=$(mktemp -d)
trap 'rm -rf "$D"' EXIT
cd "$D"
apt-get download -q iptables=1.8.9-2 libxtables12=1.8.9-2 libnftnl11=1.2.4-2 nftables libnftables1 libjansson4 \
    libmnl0 libedit2 libbsd0 >/dev/null
for package in *.deb; do dpkg -x "$package" root; done
export LD_LIBRARY_PATH=$D/root/usr/lib/x86_64-linux-gnu:$D/root/lib/x86_64-linux-gnu
export XTABLES_LIBDIR=$D/root/usr/lib/x86_64-linux-gnu/xtables
cat >steps <<'S'
set -eu
iptables=root/usr/sbin/xtables-nft-multi nft=root/usr/sbin/nft
"$iptables" iptables --version >&2
"$iptables" iptables -A FORWARD -j RETURN
"$nft" add set ip filter web '{ type inet_service; elements = { 80, 443 }; }'
"$nft" add rule ip filter FORWARD tcp dport @web accept
"$nft" list chain ip filter FORWARD >&2
"$iptables" iptables-save -t filter 2>&1
S
unshare --net bash steps >saved || { echo "iptables-save ends with $?: this has changed"; exit 1; }
cat saved
grep -qx -- '-A FORWARD -p tcp -j ACCEPT' saved || { echo "the rule is listed otherwise: this has changed"; exit 1; }
if grep -qiE 'incompatible|web|80' saved; then echo "the set, or that it is missing, is mentioned: this has changed"; exit 1; fi
echo "as found: the listed rule accepts all of TCP, the one in the kernel two ports"
