"""Client of the Engine API, on the standard library only."""
