"""Prometheus metrics: what is measured, and the listener that serves it."""
