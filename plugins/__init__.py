"""Network drivers and the firewall: each yields the resources that should exist, none does I/O."""
