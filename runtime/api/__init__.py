"""The Docker Engine API over HTTP: JSON to use cases and back."""
