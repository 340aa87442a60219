"""Kinds of links, as in `ip link add ... type KIND`, one line each.

Another kind is one more line in KINDS, its options' numbers from linux/if_link.h (IFLA_INFO_DATA).
A veth is not among them: its far end is a link of its own, in another namespace.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from netkit.errors import KernelError
from netkit.kernel.netlink.codec import attr, attributes, nest

INFO_DATA = 2
Options = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One attribute of a kind, by the name that ip-link(8) gives it."""

    name: str
    attribute: int
    size: int  # bytes
    words: Mapping[str, int] = field(default_factory=dict)  # of its values; else a decimal number


MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}

KINDS: Mapping[str, tuple[Option, ...]] = {
    "bridge": (),
    "dummy": (),
    "ifb": (),
    "macvlan": (Option(name="mode", attribute=1, size=4, words=MACVLAN_MODES),),
}


def encode(kind: str, options: Options | None) -> bytes:
    """IFLA_INFO_DATA with these options; empty without.

    KernelError (EOPNOTSUPP) for a kind that is not in KINDS, or EINVAL for an option or value
    that the kind does not have.
    """
    if kind not in KINDS:
        raise KernelError(
            f"links of kind {kind} are not supported: they are {', '.join(sorted(KINDS))} and veth",
            errno=errno.EOPNOTSUPP,
        )
    known = {o.name: o for o in KINDS[kind]}
    out = []
    for name, value in options or ():
        if (option := known.get(name)) is None:
            raise KernelError(f"a {kind} has no option {name}", errno=errno.EINVAL)
        if (raw := _number(option, value)) is None:
            raise KernelError(f"a {kind} has no {name} {value!r}", errno=errno.EINVAL)
        out.append(attr(option.attribute, raw))
    return nest(INFO_DATA, *out) if out else b""


def _number(option: Option, value: str) -> bytes | None:
    if option.words:
        number = option.words.get(value)
    else:
        number = int(value) if value.isascii() and value.isdigit() else None
    if number is None or number >> (8 * option.size):
        return None
    return number.to_bytes(option.size, sys.byteorder)


def decode(kind: str, data: bytes) -> Options | None:
    """The options in an IFLA_INFO_DATA that KINDS has names for; None where it has none."""
    if not KINDS.get(kind):
        return None
    found = attributes(data)
    return tuple(
        (option.name, _word(option, int.from_bytes(found[option.attribute], sys.byteorder)))
        for option in sorted(KINDS[kind], key=lambda each: each.name)
        if option.attribute in found
    )


def _word(option: Option, number: int) -> str:
    return next((w for w, n in option.words.items() if n == number), str(number))
