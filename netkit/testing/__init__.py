"""What tests of drivers, firewalls and the core stand on."""

from netkit.testing.kernel import FakeKernel, Inline

__all__ = ["FakeKernel", "Inline"]
