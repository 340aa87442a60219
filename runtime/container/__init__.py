"""Containers: what was asked for, how they run, what became of them."""
