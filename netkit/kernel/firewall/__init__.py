"""Which firewall back ends this host has, and what changes them."""
