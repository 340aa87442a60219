"""OCI: bundles, the low-level runtime under conmon, logs, figures."""
