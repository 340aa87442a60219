"""Containers in time: run, stop, exec, attach, logs, recovery."""
