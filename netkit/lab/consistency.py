"""Check a lab for contradictions: unknown names, duplicates.  Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator
from dataclasses import replace

from netkit.lab.model import (
    BUILT_IN,
    BUSYBOX,
    DOCKER,
    NETKIT,
    NETWORK_OPTION,
    PODMAN,
    SCOPE_OPTION,
    UNDERLAY,
    WEAVE,
    Lab,
    LabContainer,
    LabHost,
)
from netkit.lab.schema import Path, Problem
from netkit.suggestion import hint

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,27}")  # a folder's; nk-LAB-HOST must be a file name
RESERVED = frozenset({"all", "hosts", UNDERLAY})


def contradictions(lab: Lab) -> Iterator[Problem]:
    """Problems of a lab each of whose values is fine by itself."""
    if not NAME.fullmatch(lab.name):
        yield (), f"{lab.name!r} is no name for a lab: rename the folder to match {NAME.pattern}"
    segments = {s.name for s in lab.segments}
    images = {BUSYBOX, *(i.name for i in lab.images)}
    names: dict[str, Path] = {}
    for host in lab.hosts:
        at: Path = ("hosts", host.name)
        yield from _taken(host.name, at, names)
        yield from _host(host, at, segments, images)
        if any(n.shared for n in host.networks) and not lab.cluster:
            why = "scope global needs a `cluster`: list the hosts with its servers"
            yield (*at, "networks"), why
        for c in host.containers:
            inner = (*at, "containers", c.name)
            yield from _taken(c.name, inner, names)
            yield from _container(c, host, inner, images, lab.shared())
    yield from _cluster(lab)
    yield from _weave(lab)
    yield from _placeholders(lab)
    yield from _addresses(lab)


def _cluster(lab: Lab) -> Iterator[Problem]:
    found = [h for h in lab.hosts if any(i.address for i in h.interfaces)]
    able = {h.name for h in found if h.daemon is not None}
    for key, names in (("cluster", lab.cluster), ("ovn", lab.ovn)):
        for n, name in enumerate(names):
            if name not in able:
                yield (key, n), _nobody("host with a daemon and an address", name, able)
            elif name in names[:n]:
                yield (key, n), f"{name!r} is listed twice"


def _weave(lab: Lab) -> Iterator[Problem]:
    found = {h.name for h in lab.hosts if any(i.address for i in h.interfaces)}
    able = {h.name for h in lab.hosts if h.weave is not None} & found
    for host in lab.hosts:
        for n, word in enumerate(host.weave or ()):
            if not word.startswith("-") and word not in able - {host.name}:
                why = _nobody("other host with `weave` and an address", word, able - {host.name})
                yield ("hosts", host.name, "weave", n), why


def _taken(name: str, at: Path, names: dict[str, Path]) -> Iterator[Problem]:
    if name in RESERVED:
        yield at, f"the name {name!r} has a meaning of its own: choose another"
    if name in names:
        yield at, f"the name {name!r} is taken: every host and container has one of its own"
    names[name] = at


def _host(
    host: LabHost, at: Path, segments: Collection[str], images: Collection[str]
) -> Iterator[Problem]:
    for i in host.interfaces:
        if i.segment not in segments:
            where = (*at, "interfaces", i.name, "segment")
            yield where, _nobody("segment of `underlay`", i.segment, segments)
    for name in host.images:
        if name not in images:
            yield (*at, "images"), _nobody("image", name, images)
    nets = [i.address.network for i in host.interfaces if i.address]
    for n, route in enumerate(host.routes):
        if not host.setup and not any(route.gateway in net for net in nets):
            yield (*at, "routes", n), f"no interface of {host.name} reaches {route.gateway}"
    yield from _engine(host, at)
    if host.daemon is None:
        given = {
            "engine": host.engine != NETKIT,
            "networks": host.networks, "containers": host.containers, "images": host.images,
            "weave": host.weave is not None,
        }  # fmt: skip
        for key, value in given.items():
            if value:
                yield (*at, key), "needs a daemon, and this host has `daemon: false`"


def _engine(host: LabHost, at: Path) -> Iterator[Problem]:
    """What another engine than netkit's cannot have."""
    if host.engine == NETKIT:
        return
    for net in host.networks:
        where = (*at, "networks", net.name)
        if host.engine == DOCKER and net.scope:
            yield (*where, "scope"), f"is for netkit's: give the option {SCOPE_OPTION}"
        if host.engine == PODMAN and net.ipam_options:
            yield (*where, "ipam_options"), "CNI has none"
        other = replace(net, options={}, driver="bridge")
        if host.engine == PODMAN and NETWORK_OPTION in net.options and (
            len(net.options) > 1 or net.driver != "bridge" or other.flags
        ):  # fmt: skip
            yield (*where, "options"), f"with {NETWORK_OPTION} nothing else is to be given"
    for c in host.containers:
        inner = (*at, "containers", c.name, "networks")
        if host.engine == PODMAN and not c.networks:
            yield inner[:-1], "lacks `networks`: podman's own network is not netkit's"
        for name, address in c.networks.items():
            if address and "/" in address:
                yield (*inner, name), f"{address} has a prefix length, which is for netkit's"


def _container(
    c: LabContainer, host: LabHost, at: Path, images: Collection[str], shared: Collection[str]
) -> Iterator[Problem]:
    if c.image not in images:
        yield (*at, "image"), _nobody("image", c.image, images)
    elif c.image not in host.images:
        yield (*at, "image"), f"{host.name} lacks the image {c.image!r}: add it to its `images`"
    weave = {WEAVE} if host.weave is not None and host.engine == NETKIT else set()
    shared = shared if host.engine == NETKIT else ()
    networks = BUILT_IN | {n.name for n in host.networks} | {*shared} | weave
    weave |= {n.name for n in host.networks if n.driver == WEAVE}
    for name, address in c.networks.items():
        if name not in networks:
            yield (*at, "networks"), _nobody(f"network on {host.name}", name, networks)
        elif address and "/" in address and name not in weave:
            why = f"{address} has a prefix length, which is for networks of the driver {WEAVE}"
            yield (*at, "networks", name), why
    there = [other.name for other in host.containers]
    for link in c.links:
        target = link.partition(":")[0]
        if target not in there[: there.index(c.name)]:
            why = _nobody(f"container before this one on {host.name}", target, there)
            yield (*at, "links"), why


def _placeholders(lab: Lab) -> Iterator[Problem]:
    names = {h.name for h in lab.hosts} | {c.name for _, c in lab.containers()}
    for host in lab.hosts:
        for n, line in enumerate(host.firewall):
            at: Path = ("hosts", host.name, "firewall", n)
            try:
                used = [name for _, name, _, _ in string.Formatter().parse(line) if name]
            except ValueError as bad:
                yield at, f"{line!r}: {bad}"
                continue
            for name in used:
                if name not in names:
                    yield at, _nobody("host or container", name, names)


def _addresses(lab: Lab) -> Iterator[Problem]:
    taken: dict[tuple[str, str], str] = {}
    for host in lab.hosts:
        for i in host.interfaces:
            if i.address is None:
                continue
            key = (i.segment, str(i.address.ip))
            if key in taken:
                at = ("hosts", host.name, "interfaces", i.name, "address")
                yield at, f"{i.address.ip} is {taken[key]}'s on {i.segment} already"
            taken[key] = host.name


def _nobody(what: str, name: str, known: Collection[str]) -> str:
    listed = f" (there are: {', '.join(sorted(known)) or 'none'})"
    return f"no {what} is called {name!r}{hint(name, known) or listed}"
