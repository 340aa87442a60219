"""Explain what a rule set does to a packet, and trace one through a host."""
