"""Compare desired with actual state, apply the difference, verify it, and repeat on drift."""
