"""Conformance cases of builds, commits, images and volumes, and the program that runs them."""
