"""The life cycle of containers: create, start, stop, exec, attach, logs, recovery."""
