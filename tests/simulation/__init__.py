"""The core of the weave driver on a simulated network, clock and disk."""
