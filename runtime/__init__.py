"""The container engine: images, containers, the Docker Engine API, the daemon."""
