"""CNI, the Container Network Interface: https://www.cni.dev/docs/spec/ (version 1.1.0)."""
