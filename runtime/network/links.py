"""Links between containers on the default network (docker run --link NAME[:ALIAS]).

A link is stored by the child's id, so that it survives renames and restarts of either side.  It
gives the parent a line in /etc/hosts, environment variables at its start and, where icc is off,
access to the child's exposed ports.  On user-defined networks a link is an alias in the DNS of
that network instead, and none of this applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_interface

from netkit.errors import Conflict, InvalidSpec, NotFound
from netkit.spec import EndpointRecord, LinkedPorts, NetworkRecord
from runtime.container.links import LINKS, of
from runtime.container.model import Container
from runtime.container.ports import parse_exposed

DEFAULT = "bridge"  # the default network
_UNTOLD = {"HOME", "PATH"}  # variables of the child that are not passed to the parent
Find = Callable[[str], Container]  # NotFound
Port = tuple[str, int]


def parse(text: str) -> tuple[str, str]:
    """(container, alias) of NAME, NAME:ALIAS, or /NAME:/PARENT/ALIAS as inspect shows it."""
    name, colon, alias = text.partition(":")
    if not name or (colon and not alias) or ":" in alias:
        raise InvalidSpec(f"bad format for links: {text}")
    name = name.removeprefix("/")
    return name, (alias or name).rpartition("/")[2]


def applies(c: Container) -> bool:
    return c.host_config.network_mode in {"bridge", "default", ""}


def attach(c: Container, find: Find) -> list[str]:
    """Validate links at `create`, and store them; warnings.

    Children must exist, and not share the host's network.  A child that shares another container's
    network is replaced by that one; reachability is checked at the start.  The first link with an
    alias wins, as in Docker.
    """
    if not c.host_config.links:
        return []
    if c.host_config.network_mode == "host":
        raise InvalidSpec(
            "conflicting options: host type networking can't be used with links. This would "
            "result in undefined behavior"
        )
    if not applies(c):
        return []
    links: dict[str, str] = {}
    warnings: list[str] = []
    for text in c.host_config.links:
        name, alias = parse(text)
        child = _child(name, find)
        if links.setdefault(alias, child.id) != child.id:
            warnings.append(f"link {text} is ignored: {alias} is another container already")
    c.extra[LINKS] = links
    update_shown_links(c, find)
    return warnings


def _child(name: str, find: Find) -> Container:
    """The container that owns the network namespace of `name`.

    InvalidSpec, not NotFound: clients take a 404 of `create` for a missing image, and pull it.
    """
    passed: set[str] = set()
    while True:
        try:
            child = find(name)
        except NotFound as e:
            raise InvalidSpec(f"could not get container for {name}: {e}") from None
        if child.host_config.network_mode == "host":
            raise InvalidSpec(
                "conflicting options: host type networking can't be used with links. This would "
                f"result in undefined behavior: {child.name} is on the host's network"
            )
        if child.host_config.network_of is None:
            return child
        if child.id in passed:
            raise InvalidSpec(f"cannot link to {name}: it shares its own network in a circle")
        passed.add(child.id)
        name = child.host_config.network_of


def aliases(containers: Iterable[Container]) -> dict[str, list[str]]:
    """Names that links give to containers, by id: "web/db" for the alias db of web."""
    out: dict[str, list[str]] = {}
    for parent in containers:
        for alias, id in of(parent).items():
            out.setdefault(id, []).append(f"{parent.name}/{alias}")
    return {id: sorted(names) for id, names in out.items()}


def update_shown_links(c: Container, find: Find) -> None:
    """Render HostConfig.Links with the current names."""
    if not of(c):
        return
    shown = []
    for alias, id in of(c).items():
        try:
            shown.append(f"/{find(id).name}:/{c.name}/{alias}")
        except NotFound:
            continue
    c.host_config.links = sorted(shown)


def children(c: Container, find: Find) -> dict[str, Container]:
    """Children by alias.  Conflict unless all of them run on the default network.

    Empty while the parent is not on it.
    """
    out: dict[str, Container] = {}
    if DEFAULT not in c.networks:
        return out
    for alias, id in of(c).items():
        try:
            child = find(id)
        except NotFound:
            raise Conflict(
                f"cannot link to a container that was removed: {id[:12]} AS /{c.name}/{alias}"
            ) from None
        if not child.state.alive:
            raise Conflict(
                f"Cannot link to a non running container: /{child.name} AS /{c.name}/{alias}"
            )
        if DEFAULT not in child.networks:
            raise Conflict(
                f"Cannot link to /{child.name}, as it does not belong to the default network"
            )
        out[alias] = child
    return out


def linked_ports(c: Container, find: Find) -> tuple[LinkedPorts, ...]:
    """Ports of children that the parent may reach although icc is off."""
    ports: dict[str, list[Port]] = {}
    for id in of(c).values():
        try:
            ports[id] = exposed(find(id))
        except NotFound:
            continue
    return tuple(LinkedPorts(sandbox=id, ports=tuple(found)) for id, found in sorted(ports.items()))


def exposed(c: Container) -> list[Port]:
    """Exposed ports in Docker's order: tcp first, then other protocols, each by number."""
    pairs = {pair for text in c.config.exposed_ports or {} for pair in parse_exposed(text)}
    return sorted(((proto, port) for port, proto in pairs), key=lambda p: (p[0] != "tcp", p))


def address(live: Sequence[EndpointRecord], default: NetworkRecord) -> str:
    """Address of the child on the default network; "" if it is not on it."""
    found = next((e.address for e in live if e.network == default.id and e.address), "")
    return str(ip_interface(found).ip) if found else ""


def hosts_line(alias: str, child: Container, ip: str) -> tuple[str, str]:
    """(address, names) for the parent's /etc/hosts."""
    names = dict.fromkeys((alias, child.config.hostname, child.name))
    return ip, " ".join(n for n in names if n)


def environment(parent: str, alias: str, child: Container, ip: str) -> list[str]:
    """Environment variables for the parent, as Docker's daemon/links (Link.ToEnv)."""
    prefix = alias.replace("-", "_").upper()
    ports = exposed(child)
    lines: list[str] = []
    if ports:
        proto, port = ports[0]
        lines.append(f"{prefix}_PORT={proto}://{ip}:{port}")
    for first, last in _runs(ports):
        lines += _range(prefix, ip, first, last) if first != last else []
        for port in range(first[1], last[1] + 1):
            lines += _port(prefix, ip, first[0], port)
    lines.append(f"{prefix}_NAME=/{parent}/{alias}")
    for text in child.config.env or ():
        name, equals, value = text.partition("=")
        if equals and name not in _UNTOLD:
            lines.append(f"{prefix}_ENV_{name}={value}")
    return lines


def _port(prefix: str, ip: str, proto: str, port: int) -> list[str]:
    key = f"{prefix}_PORT_{port}_{proto.upper()}"
    return [
        f"{key}={proto}://{ip}:{port}", f"{key}_ADDR={ip}", f"{key}_PORT={port}",
        f"{key}_PROTO={proto}",
    ]  # fmt: skip


def _range(prefix: str, ip: str, first: Port, last: Port) -> list[str]:
    """Variables of a range of ports, which Docker names after the first port."""
    proto = first[0]
    key = f"{prefix}_PORT_{first[1]}_{proto.upper()}"
    return [
        f"{key}_START={proto}://{ip}:{first[1]}", f"{key}_END={proto}://{ip}:{last[1]}",
        f"{key}_PORT_START={first[1]}", f"{key}_PORT_END={last[1]}",
    ]  # fmt: skip


def _runs(ports: Sequence[Port]) -> list[tuple[Port, Port]]:
    """Contiguous ports of one protocol as (first, last)."""
    runs: list[tuple[Port, Port]] = []
    for proto, port in ports:
        if runs and runs[-1][1] == (proto, port - 1):
            runs[-1] = (runs[-1][0], (proto, port))
        else:
            runs.append(((proto, port), (proto, port)))
    return runs
