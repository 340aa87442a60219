"""Labs of other tools, read into ours: containerlab, Kathara, compose."""
