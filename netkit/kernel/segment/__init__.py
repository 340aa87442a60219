"""Probes and transports on a network segment: ARP, DHCP."""
