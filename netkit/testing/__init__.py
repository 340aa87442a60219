"""What tests of drivers, firewalls and the core stand on: `kernel`, `driver_contract`, `packets`.

Imports nothing: pytest loads `netkit.testing.plugin` wherever netkit is installed.
"""
