"""The ovs driver's `-o` options, checked and typed.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from netkit.errors import InvalidSpec
from plugins.options import default, flag, ipv4, link_name, number

DOCKER_MTU = "com.docker.network.driver.mtu"
MODES = ("l2", "routed")
DEVICES = ("ovs", "kernel")
UNDERLAY_MTU = 1500  # bytes; `-o mtu` where the underlay carries more or less
# Outer IPv4 20 and inner Ethernet 14, and between them GRE with key 8, or UDP 8 and 8 of header.
OVERHEAD = {"gre": 42, "vxlan": 50, "geneve": 50}  # bytes
LARGEST_KEY = {"gre": 2**32 - 1, "vxlan": 2**24 - 1, "geneve": 2**24 - 1}
MIN_MTU, MAX_MTU = 68, 65535  # RFC 791; the IPv4 length field has 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    peers: tuple[IPv4Address, ...] = ()  # sorted
    tunnel: str = next(iter(OVERHEAD))
    key: int | None = None  # derived from the network's name when not given
    local: IPv4Address | None = None  # tunnels come from here; else as the host routes
    mtu: int = UNDERLAY_MTU - OVERHEAD["gre"]  # bytes, of containers
    mode: str = MODES[0]
    routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()  # sorted: subnet, peer that has it
    bridge: str | None = None
    bfd: bool = True
    device: str = DEVICES[0]  # which makes VXLAN tunnels


UNSET = Options()
KNOWN = {
    "peers": "addresses of the other hosts, A,B (default those of the cluster)",
    "tunnel": f"{', '.join(OVERHEAD)} {default(UNSET.tunnel)}",
    "key": "number of the tunnel (default from the network's name)",
    "local": "address of this host that tunnels come from (default as it routes)",
    "mtu": f"bytes of containers (default {UNDERLAY_MTU} less {OVERHEAD['gre']} for gre, "
           f"{OVERHEAD['vxlan']} for vxlan and geneve)",
    "mode": f"{' or '.join(MODES)} {default(UNSET.mode)}",
    "routes": f"in mode routed: SUBNET=PEER,SUBNET=PEER {default(UNSET.routes)}",
    "bridge": "Open vSwitch bridge of the administrator's to use (default one of our own)",
    "vxlan-device": "ovs, or kernel: faster, where ovs-vswitchd segments TCP "
                    f"{default(UNSET.device)}",
    "bfd": f"notice peers that are down {default(UNSET.bfd)}",
    DOCKER_MTU: "the same as mtu",
}  # fmt: skip


def parse(options: Mapping[str, str]) -> Options:
    """Parse the options; InvalidSpec names the invalid one."""
    tunnel = _one_of(options, "tunnel", tuple(OVERHEAD))
    mode = _one_of(options, "mode", MODES)
    routes = tuple(sorted(_route(text) for text in _list(options, "routes")))
    if routes and mode != "routed":
        raise InvalidSpec("option routes is for mode=routed: in mode l2 there is one subnet")
    if "mtu" in options and DOCKER_MTU in options:
        raise InvalidSpec(f"options mtu and {DOCKER_MTU} are the same: give one")
    peers = {_peer(text) for text in _list(options, "peers")} | {peer for _, peer in routes}
    local = ipv4(options, "local")
    if local in peers:
        raise InvalidSpec(f"option local: {local} is among the peers, which are other hosts")
    _apart([subnet for subnet, _ in routes])
    device = _device(options, tunnel, mode)
    mtu_key = DOCKER_MTU if DOCKER_MTU in options else "mtu"
    return Options(
        peers=tuple(sorted(peers)),
        tunnel=tunnel,
        key=number(options, "key", 1, LARGEST_KEY[tunnel]),
        local=local,
        mtu=number(options, mtu_key, MIN_MTU, MAX_MTU) or UNDERLAY_MTU - OVERHEAD[tunnel],
        mode=mode,
        routes=routes,
        bridge=link_name(options["bridge"], "bridge") if options.get("bridge") else None,
        bfd=flag(options, "bfd", UNSET.bfd) and device == UNSET.device,
        device=device,
    )


def _device(options: Mapping[str, str], tunnel: str, mode: str) -> str:
    device = _one_of(options, "vxlan-device", DEVICES)
    if device == UNSET.device:
        return device
    if tunnel != "vxlan" or mode != "l2":
        raise InvalidSpec("option vxlan-device=kernel is for tunnel=vxlan in mode l2")
    for key in ("local", "bridge"):
        if options.get(key):
            raise InvalidSpec(f"option {key} is not for vxlan-device=kernel")
    if flag(options, "bfd", False):
        raise InvalidSpec("option bfd: a VXLAN device of the kernel's does not probe its peers")
    return device


def _list(options: Mapping[str, str], key: str) -> list[str]:
    return [word for word in options.get(key, "").replace(" ", "").split(",") if word]


def _one_of(options: Mapping[str, str], key: str, known: tuple[str, ...]) -> str:
    text = options.get(key) or known[0]
    if text not in known:
        raise InvalidSpec(f"invalid value {text!r} for option {key}: use {', '.join(known)}")
    return text


def _peer(text: str) -> IPv4Address:
    try:
        peer = IPv4Address(text)
    except ValueError:
        raise InvalidSpec(f"invalid value {text!r} for option peers: use IPv4 addresses") from None
    if peer.is_multicast or peer.is_loopback or peer.is_unspecified:
        raise InvalidSpec(f"option peers: {peer} is no address of another host")
    return peer


def _route(text: str) -> tuple[IPv4Network, IPv4Address]:
    subnet, _, peer = text.partition("=")
    try:
        return IPv4Network(subnet), _peer(str(IPv4Address(peer)))
    except ValueError:
        raise InvalidSpec(
            f"invalid value {text!r} for option routes: use SUBNET=PEER, "
            "e.g. 192.168.2.0/24=192.168.59.104"
        ) from None


def _apart(subnets: list[IPv4Network]) -> None:
    for one, two in pairwise(subnets):
        if one.overlaps(two):
            raise InvalidSpec(f"option routes: {one} and {two} overlap")
