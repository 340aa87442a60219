"""iptables, ip6tables and ipset, in both kernel back ends."""
