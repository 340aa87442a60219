"""The resolver of containers on user-defined networks, at 127.0.0.11."""
