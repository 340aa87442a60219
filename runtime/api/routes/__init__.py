"""Handlers by path."""
