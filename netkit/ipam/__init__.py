"""Address management: pools, allocation, and leases from DHCP."""
