"""Firewall plugins: what iptables or nf_tables should hold."""
