"""All I/O on links, addresses, routes, neighbours, settings, namespaces and firewall rules."""
