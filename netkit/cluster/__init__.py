"""State that hosts share: global networks, and who has which of their addresses."""
