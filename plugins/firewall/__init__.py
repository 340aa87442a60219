"""Firewall plugins: render policies as resources of iptables or nf_tables."""
