"""The Docker Engine API 1.22-1.51: translates between HTTP and `runtime.api.backend`."""
