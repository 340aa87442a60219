"""Network drivers and the firewall: each says what should exist, none acts."""
