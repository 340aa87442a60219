"""Builds images from Dockerfiles: contexts, instructions, cache."""
