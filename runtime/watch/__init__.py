"""The state of all networks as a stream: complete at first, then what changes."""
