"""The network controller: networks, sandboxes, endpoints, policy."""
