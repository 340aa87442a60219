"""The overlay's process, and what it does on the host: it outlives netkitd, and netkitd it."""
