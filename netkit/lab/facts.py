"""The running state of a lab: hosts, containers, their addresses and namespaces."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any, Literal

from netkit.client.failure import Failure, Refused
from netkit.errors import KernelError, NotFound
from netkit.kernel import netns
from netkit.lab import engines, lookup
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import NETKIT, Lab, LabHost, Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A host or a container.  `addresses` by interface of a host, by network of a container."""

    name: str
    kind: Literal["host", "container"]
    host: str
    netns: str  # path; "" for a container that does not run
    addresses: Mapping[str, IPv4Interface]
    state: str
    image: str = ""
    ports: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        return bool(self.netns)

    def address(self, where: str = "") -> str:
        """Return the address on a network or interface, or the first.  NotFound lists them."""
        found = self.addresses.get(where) if where else next(iter(self.addresses.values()), None)
        if found is None:
            there = ", ".join(self.addresses) or "no address at all"
            on = f" on {where!r}" if where else ""
            raise NotFound(f"{self.name} has no address{on} (it has: {there})")
        return str(found.ip)


class Facts(Mapping[str, str]):
    """Names to nodes, and as a mapping to addresses; read when first asked, then kept."""

    def __init__(self, lab: Lab, places: Places) -> None:
        self.lab, self.places = lab, places
        self._nodes: dict[str, Node] = {}
        self._home = {c.name: h for h, c in lab.containers()}

    def __getitem__(self, name: str) -> str:
        return self.node(name).address()

    def __iter__(self) -> Iterator[str]:
        yield from (h.name for h in self.lab.hosts)
        yield from self._home

    def __contains__(self, name: object) -> bool:
        return name in self._home or any(h.name == name for h in self.lab.hosts)

    def __len__(self) -> int:
        return len(self.lab.hosts) + len(self._home)

    def node(self, name: str) -> Node:
        """NotFound if the lab has no node of that name."""
        if name not in self._nodes:
            if host := self.lab.host(name):
                self._nodes[name] = self._host(host)
            elif name in self._home:
                self._nodes[name] = self._container(self._home[name], name)
            else:
                known = ", ".join(self)
                raise NotFound(f"lab {self.lab.name} has no {name!r} (there are: {known})")
        return self._nodes[name]

    def nodes(self) -> list[Node]:
        return [self.node(name) for name in self]

    def between(self, source: Node, target: Node, where: str = "") -> str:
        """The address at which `source` would look for `target`: one on a network of both."""
        if where:
            return target.address(where)
        if source.host == target.host:
            shared = [n for n in target.addresses if n in source.addresses]
            return target.address(shared[0] if shared and source.kind == target.kind else "")
        # Every host may have a 172.17.0.0/16 of its own: between hosts the segments count.
        ours, theirs = self._plugged(source.host), self._plugged(target.host)
        for segment, interface in theirs.items():
            if segment in ours and target.kind == "host" and interface in target.addresses:
                return target.address(interface)
        return target.address()

    def _plugged(self, host: str) -> dict[str, str]:
        """Interfaces of a host by segment."""
        found = self.lab.host(host)
        return {i.segment: i.name for i in found.interfaces} if found else {}

    def _host(self, host: LabHost) -> Node:
        path = self.places.netns(host.name)
        there = netns.exists(path)
        state = "plain" if host.daemon is None else "running"
        if host.daemon is not None and not self._answers(host.name):
            state = "daemon down"
        return Node(
            name=host.name,
            kind="host",
            host=host.name,
            netns=path if there else "",
            addresses=self._own(host) if there else {},
            state=state if there else "down",
        )

    def _answers(self, host: str) -> bool:
        """Whether its netkitd does, and, if that is another, the engine of its containers."""
        found = engines.serving(self.places, host)
        own = LabDaemon(self.places, host)
        return found.answers() and (isinstance(found, LabDaemon) or own.answers())

    def _own(self, host: LabHost) -> dict[str, IPv4Interface]:
        """Those of the interfaces that lab.yml names come first."""
        found = _addresses(self.places.namespace(host.name))
        plugged = {i.name: found[i.name] for i in host.interfaces if i.name in found}
        return plugged | found

    def _container(self, host: LabHost, name: str) -> Node:
        engine = engines.engine(self.places, host.name)
        try:
            seen, state = lookup.container(engine, name), "absent"
        except Failure as error:
            seen, state = None, "absent" if isinstance(error, Refused) else "daemon down"
        finally:
            engine.close()
        if seen is None:
            return Node(name=name, kind="container", host=host.name, netns="", addresses={},
                        state=state)  # fmt: skip
        return _inspected(name, host, seen, self.places)


def _inspected(name: str, host: LabHost, seen: Mapping[str, Any], places: Places) -> Node:
    settings = seen["NetworkSettings"]
    addresses = {
        net: IPv4Interface(f"{ep['IPAddress']}/{ep['IPPrefixLen']}")
        for net, ep in settings["Networks"].items()
        if ep["IPAddress"]
    }
    running = bool(seen["State"]["Running"])
    shared = seen["HostConfig"]["NetworkMode"] == "host"
    own = places.netns(host.name) if shared else settings["SandboxKey"]
    if host.engine != NETKIT and running:  # SandboxKey is a mount of the host's
        own = f"/proc/{seen['State']['Pid']}/ns/net"
    return Node(
        name=name,
        kind="container",
        host=host.name,
        netns=own if running else "",
        addresses=_addresses(places.namespace(host.name)) if shared else addresses,
        state=seen["State"]["Status"],
        image=seen["Config"]["Image"],
        ports=tuple(_published(settings.get("Ports") or {})),
    )


def _published(ports: dict[str, list[dict[str, str]] | None]) -> Iterator[str]:
    for inside, outside in sorted(ports.items()):
        for each in outside or ():
            yield f"{each['HostIp']}:{each['HostPort']}->{inside}"


def _addresses(namespace: str) -> dict[str, IPv4Interface]:
    """The first address of every interface but the loopback."""
    done = subprocess.run(
        ["ip", "-n", namespace, "-j", "-4", "addr"],
        capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise KernelError(f"cannot list the addresses of {namespace}: {done.stderr.strip()}")
    out: dict[str, IPv4Interface] = {}
    for link in json.loads(done.stdout or "[]"):
        for a in link.get("addr_info", ()):
            if a["scope"] == "global":
                out.setdefault(link["ifname"], IPv4Interface(f"{a['local']}/{a['prefixlen']}"))
    return out
