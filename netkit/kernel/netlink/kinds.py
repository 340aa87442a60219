"""Kinds of links, as in `ip link add ... type KIND`, one line each.

Another kind is one more line in KINDS, its options' numbers from linux/if_link.h (IFLA_INFO_DATA).
A veth is not among them: its far end is a link of its own, in another namespace.  Nor is a tap,
which rtnetlink shows and does not make: see `tap`.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

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
    order: Literal["little", "big"] = sys.byteorder
    address: bool = False  # of IPv4, as people write it


TUN, TAP = "tun", "tap"
TUN_TYPE, TYPE_TAP = 3, 2  # IFLA_TUN_TYPE; IFF_TAP of linux/if_tun.h
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
SWITCH = {"off": 0, "on": 1}
VXLAN = (
    Option(name="df", attribute=29, size=1, words={"unset": 0, "set": 1, "inherit": 2}),
    Option(name="dstport", attribute=15, size=2, order="big"),
    Option(name="id", attribute=1, size=4),
    Option(name="learning", attribute=7, size=1, words=SWITCH),
    Option(name="local", attribute=4, size=4, order="big", address=True),
    Option(name="ttl", attribute=5, size=1),
    Option(name="udpcsum", attribute=18, size=1, words=SWITCH),
)

KINDS: Mapping[str, tuple[Option, ...]] = {
    "bridge": (),
    "dummy": (),
    "ifb": (),
    "macvlan": (Option(name="mode", attribute=1, size=4, words=MACVLAN_MODES),),
    "vxlan": VXLAN,
}


def encode(kind: str, options: Options | None) -> bytes:
    """IFLA_INFO_DATA with these options; empty without.

    KernelError (EOPNOTSUPP) for a kind that is not in KINDS, or EINVAL for an option or value
    that the kind does not have.
    """
    if kind not in KINDS:
        known = ", ".join(sorted({*KINDS, TAP}))
        raise KernelError(
            f"links of kind {kind} are not supported: they are {known} and veth",
            errno=errno.EOPNOTSUPP,
        )
    options_of_kind = {o.name: o for o in KINDS[kind]}
    out = []
    for name, value in options or ():
        if (option := options_of_kind.get(name)) is None:
            raise KernelError(f"a {kind} has no option {name}", errno=errno.EINVAL)
        if (raw := _number(option, value)) is None:
            raise KernelError(f"a {kind} has no {name} {value!r}", errno=errno.EINVAL)
        out.append(attr(option.attribute, raw))
    return nest(INFO_DATA, *out) if out else b""


def _number(option: Option, value: str) -> bytes | None:
    number: int | None
    if option.words:
        number = option.words.get(value)
    elif option.address:
        with suppress(ValueError):
            return IPv4Address(value).packed
        return None
    else:
        number = int(value) if value.isascii() and value.isdigit() else None
    if number is None or number >> (8 * option.size):
        return None
    return number.to_bytes(option.size, option.order)


def named(kind: str, data: bytes) -> str:
    """The kind as the model has it, from IFLA_INFO_KIND and IFLA_INFO_DATA: a tap is a "tun" there.

    Kernels that have no IFLA_TUN_TYPE do not distinguish the two.
    """
    is_tap = kind == TUN and attributes(data).get(TUN_TYPE) == bytes([TYPE_TAP])
    return TAP if is_tap else kind


def decode(kind: str, data: bytes) -> Options | None:
    """The options in an IFLA_INFO_DATA that KINDS has names for; None where it has none."""
    if not KINDS.get(kind):
        return None
    found = attributes(data)
    return tuple(
        (option.name, _word(option, int.from_bytes(found[option.attribute], option.order)))
        for option in sorted(KINDS[kind], key=lambda each: each.name)
        if option.attribute in found
    )


def _word(option: Option, number: int) -> str:
    if option.address:
        return str(IPv4Address(number))
    return next((w for w, n in option.words.items() if n == number), str(number))
