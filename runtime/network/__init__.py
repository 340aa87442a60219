"""A container's network: endpoint settings, links, names, firewall."""
