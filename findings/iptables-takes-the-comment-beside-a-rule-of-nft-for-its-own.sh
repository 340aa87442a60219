#!/bin/bash
# iptables 1.8.9 and nftables 1.0.6 of Debian 12, Linux 6.18.
# Expected: the comment of a rule that nft wrote means nothing to iptables, whose comments are an extension (-m comment); and what
#           `nft list ruleset` prints of a rule of iptables has the comment, so that `nft -f` of it brings it back.
# Found: the other way round.  iptables-nft lists the comment of nft's rule as `-m comment`, and finds (-C) and deletes (-D) the
#        rule by it; nft prints none of a rule of iptables, so after `nft -f` of its own listing it is lost.
#        Who knows their rules by comments, beside tools that save and restore by nft, does better with nft's kind of comment.
# Needs iptables-nft, nft, and root for a namespace of its own.  Exit 0 as long as this holds.
set -eu
iptables-nft --version
nft --version | sed 's/ (.*//'
unshare --net bash -eu <<'P' || { echo "this has changed"; exit 1; }
listing=$(mktemp)
trap 'rm -f "$listing"' EXIT
iptables-nft -N c
nft add rule ip filter c counter drop comment beside
iptables-nft -A c -j ACCEPT -m comment --comment extension
iptables-nft -S c
iptables-nft -C c -j DROP -m comment --comment beside
nft list ruleset >"$listing"
grep -E 'beside|extension' "$listing"
nft flush ruleset
nft -f "$listing"
echo "after nft -f of that:"
iptables-nft -S c
[ "$(iptables-nft -S c | grep -c beside)" = 1 ]
[ "$(iptables-nft -S c | grep -c extension)" = 0 ]
iptables-nft -D c -j DROP -m comment --comment beside
[ "$(iptables-nft -S c | grep -c beside)" = 0 ]
P
