"""OCI: bundles, the OCI runtime under conmon, container logs, resource usage."""
