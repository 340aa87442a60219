"""Root file systems: safe access below a directory, overlay snapshots, archives."""
