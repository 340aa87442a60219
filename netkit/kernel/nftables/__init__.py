"""Tables of our own in nf_tables."""
