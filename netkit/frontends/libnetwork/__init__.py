"""dockerd's remote network drivers and remote IPAM (libnetwork, plugin protocol v1.2)."""
