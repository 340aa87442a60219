"""`python -m netkit` is `netkit`."""

from netkit.cli import main

main()
