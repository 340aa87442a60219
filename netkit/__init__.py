"""netkit: networks for containers, as data."""

__version__ = "0.1.0"
