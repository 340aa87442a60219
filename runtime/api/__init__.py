"""The Docker Engine API 1.24-1.51: translates between HTTP and `runtime.ports`, decides nothing."""
