"""Base images without a registry: Debian by debootstrap, and static busybox."""
