"""Volumes: data that outlives containers, in the database and below ROOT/volumes."""
