"""Check options that no driver reads: misspelt ones are refused, others are kept with a warning.

Docker keeps every option of a network, so that a compose file may carry some for another engine
or driver.  A name in Docker's or netkit's own namespace that is close to one the driver reads is
a misspelling: what was asked for would silently not be so.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from netkit.errors import InvalidSpec
from netkit.suggestion import nearest

OURS = ("com.docker.network.", "netkit.")
# Read by the API before any driver, as by Docker's.
COMMON = ("com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6")


def unread(keys: Iterable[str], known: Collection[str], reader: str) -> list[str]:
    """Warnings, one for each key that is not among `known` and no misspelling of one of those.

    InvalidSpec names the first misspelling.  `reader`: "the bridge driver".
    """
    warnings = []
    for key in sorted(set(keys) - set(known) - set(COMMON)):
        if near := misspelt(key, known):
            raise InvalidSpec(f"unknown option {key!r} for {reader}: did you mean {near}?")
        warnings.append(f"option {key!r} has no effect: {reader} does not know it")
    return warnings


def misspelt(key: str, known: Collection[str]) -> str:
    """The known option that was probably meant; "" if it is some other tool's."""
    if "." in key and not key.startswith(OURS):
        return nearest(key, known) or ""
    ends = {name.rpartition(".")[2]: name for name in known}
    found = nearest(key.rpartition(".")[2], ends)
    return ends[found] if found else ""
