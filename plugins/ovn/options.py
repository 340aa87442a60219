"""The ovn driver's `-o` options, checked and typed.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netkit.driver import ovsdb_remotes
from netkit.errors import InvalidSpec
from plugins.options import number

DOCKER_MTU = "com.docker.network.driver.mtu"
UNDERLAY_MTU = 1500  # bytes; `-o mtu` where the underlay carries more or less
# Outer IPv4 20 and inner Ethernet 14, UDP 8, Geneve 8 and OVN's option in it 8: RFC 8926,
# ovn-architecture(7), "Tunnel Encapsulations".
OVERHEAD = 58  # bytes
MIN_MTU, MAX_MTU = 68, 65535  # RFC 791; the IPv4 length field has 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    northbound: str = ""  # remotes, with commas; "" is the host's
    mtu: int = UNDERLAY_MTU - OVERHEAD  # bytes, of containers


KNOWN = {
    "nb": "northbound database, tcp:IP:6641,tcp:IP:6641 (default as netkitd --ovn-nb, or "
          "external_ids:ovn-nb of Open vSwitch)",
    "mtu": f"bytes of containers (default {UNDERLAY_MTU} less {OVERHEAD})",
    DOCKER_MTU: "the same as mtu",
}  # fmt: skip


def parse(options: Mapping[str, str]) -> Options:
    """Parse the options; InvalidSpec names the invalid one."""
    if "mtu" in options and DOCKER_MTU in options:
        raise InvalidSpec(f"options mtu and {DOCKER_MTU} are the same: give one")
    key = DOCKER_MTU if DOCKER_MTU in options else "mtu"
    return Options(
        northbound=_northbound(options),
        mtu=number(options, key, MIN_MTU, MAX_MTU) or UNDERLAY_MTU - OVERHEAD,
    )


def _northbound(options: Mapping[str, str]) -> str:
    text = options.get("nb")
    if text is None:
        return ""
    try:
        return ovsdb_remotes(text)
    except ValueError as error:
        raise InvalidSpec(f"invalid value {text!r} for option nb: {error}") from None
