"""Find the interfaces that a user means, of containers and hosts of an engine.

A point is entered by its namespace: of a container by its process, of the engine's host by the
process that has the engine's socket.  So it must be an engine of this machine.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from netkit.capture.words import Spot
from netkit.client.engine import Engine
from netkit.client.failure import Failure, Refused
from netkit.errors import InvalidSpec, KernelError, NotFound
from netkit.kernel.packet_socket import hardware_address, interfaces
from netkit.suggestion import hint

HOST = "host"  # of the engine, as `net trace` names it
LOOPBACK = "lo"
PEER = struct.Struct("3i")  # struct ucred
MOST_NAMED = 12  # names in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An interface in the namespace at `ns`.  `pid`: the point ends with that process; 0: none.

    `host` is that of a lab.
    """

    name: str
    description: str
    ns: str
    interface: str
    pid: int = 0
    host: str = ""


def local(engine: Engine) -> None:
    """InvalidSpec for an engine that is not reached by a socket of this machine."""
    if not engine.endpoint.path:
        raise InvalidSpec(
            f"packets are captured on the engine's own machine, and {engine.endpoint.text} may be "
            "another: run netkit capture there, by ssh, with -w - for the packets"
        )


def of_engine(engine: Engine, spot: Spot) -> list[Point]:
    """NotFound lists what there is; a name alone is a container, else an interface of the host."""
    local(engine)
    if spot.owner == HOST and spot.interface:
        return [of_host(engine_namespace(engine), spot, HOST, "host of the engine")]
    try:
        seen = engine.get(f"/containers/{quote(spot.owner, safe='')}/json")
    except Refused as refused:
        if refused.status != 404:
            raise
    else:
        return of_container(seen, spot)
    ns = engine_namespace(engine)
    if not spot.network and not spot.interface and spot.owner in interfaces(ns):
        return [_named(HOST, "host of the engine", ns, spot.owner)]
    names = _containers(engine)
    if spot.network or spot.interface:
        raise NotFound(f"no container {spot.owner!r}{_there(spot.owner, names)}")
    known = [*names, *interfaces(ns)]
    raise NotFound(f"no container or interface {spot.owner!r}{_there(spot.owner, known)}")


def of_host(ns: str, spot: Spot, name: str, description: str) -> Point:
    """NotFound if it has no such interface."""
    known = interfaces(ns)
    if spot.interface not in known:
        there = _there(spot.interface, known)
        raise NotFound(f"{name} has no interface {spot.interface!r}{there}")
    return _named(name, description, ns, spot.interface)


def of_container(seen: dict[str, Any], spot: Spot, where: str = "") -> list[Point]:
    """By what `inspect` shows of it: all its interfaces but the loopback, or the one meant."""
    name = str(seen["Name"]).removeprefix("/")
    pid = int(seen["State"]["Pid"])
    if not pid:
        raise NotFound(f"container {name} does not run: netkit start {name}")
    ns = f"/proc/{pid}/ns/net"
    networks: dict[str, Any] = seen["NetworkSettings"]["Networks"] or {}
    if spot.network and spot.network not in networks:
        there = _there(spot.network, list(networks))
        raise NotFound(f"container {name} is on no network {spot.network!r}{there}")
    known = interfaces(ns)
    if spot.interface and spot.interface not in known:
        there = _there(spot.interface, known)
        raise NotFound(f"container {name} has no interface {spot.interface!r}{there}")
    by_mac = {hardware_address(ns, each): each for each in known if each != LOOPBACK}
    on = {by_mac[mac]: net for net, ep in networks.items() if (mac := ep["MacAddress"]) in by_mac}
    if spot.network and spot.network not in on.values():
        raise KernelError(
            f"container {name} has no interface of network {spot.network}: it has that of its "
            f"host, or process {pid} of this machine is not its"
        )
    found = [each for each in known if each != LOOPBACK]
    if spot.interface:
        found = [spot.interface]
    elif spot.network:
        found = [each for each, net in on.items() if net == spot.network]
    if not found:
        raise NotFound(f"container {name} has no interface but {name}@{LOOPBACK}")
    at = f" of {where}" if where else ""
    return [
        _named(
            name, f"container {name}{at}" + (f", network {on[i]}" if i in on else ""), ns, i, pid
        )
        for i in found
    ]


def engine_namespace(engine: Engine) -> str:
    """Of the process that has the engine's socket.  NotFound if it is on no process of ours."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(engine.endpoint.path)
        except OSError as error:
            raise Failure(f"cannot connect to {engine.endpoint.text}: {error.strerror}") from error
        pid, _, _ = PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if not pid:
        raise NotFound(f"the engine of {engine.endpoint.text} is no process of this machine")
    return f"/proc/{pid}/ns/net"


def _named(owner: str, description: str, ns: str, interface: str, pid: int = 0) -> Point:
    return Point(
        name=f"{owner}@{interface}", description=description, ns=ns, interface=interface, pid=pid
    )


def _containers(engine: Engine) -> list[str]:
    return sorted(_names(engine.get("/containers/json")))


def _names(listed: list[dict[str, Any]]) -> Iterator[str]:
    for each in listed:
        yield str(each["Names"][0]).removeprefix("/")


def _there(word: str, known: list[str]) -> str:
    more = f" and {len(known) - MOST_NAMED} more" if known[MOST_NAMED:] else ""
    listed = ", ".join(known[:MOST_NAMED]) + more
    return hint(word, known) or f" (there are: {listed or 'none'})"
