"""Leases from the DHCP server of a segment, for containers on it (RFC 2131)."""
