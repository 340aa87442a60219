"""Links, addresses, routes, neighbours and sockets through netlink."""
