"""Detect and probe this host's firewall back ends, and watch them."""
