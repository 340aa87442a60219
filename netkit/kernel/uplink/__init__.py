"""A NIC of the host under a bridge: hand-over and its watchdog."""
