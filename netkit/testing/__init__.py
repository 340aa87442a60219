"""Test support for drivers, firewalls and the core: `kernel`, `driver_contract`, `packets`.

Imports nothing: pytest loads `netkit.testing.plugin` wherever netkit is installed.
"""
