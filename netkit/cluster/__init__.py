"""State shared by hosts: global networks, and the owners of their addresses."""
