"""A client of registries (OCI distribution specification): pull, push, search, log in."""
