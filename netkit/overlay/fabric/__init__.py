"""What the kernel has to know of an overlay's peers and their containers, and keeping it right.

    Table      what should be: networks, who is on them, how each peer is reached       (pure)
      -> Rows  the kernel's entries for that, and what is wrong with the table          (pure)
    Fabric     reads the kernel, changes the differences, and watches it

Any process can use it, for the network namespace it names; one at a time for each namespace.
"""

from netkit.overlay.fabric.fabric import Fabric, Outcome
from netkit.overlay.fabric.table import Member, NetworkTable, Path, Reach, Table

__all__ = ["Fabric", "Member", "NetworkTable", "Outcome", "Path", "Reach", "Table"]
