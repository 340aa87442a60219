"""Create a host's images, networks and containers through its engine's API, each once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from netkit.bootstrap.isolation import Say
from netkit.cli import createbody, createflags, network, progress
from netkit.cli.flags import read
from netkit.client.engine import Engine
from netkit.client.failure import Failure
from netkit.errors import NetkitError
from netkit.lab import images, lookup
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import (
    NETKIT,
    NETWORK_OPTION,
    PODMAN,
    Image,
    Lab,
    LabContainer,
    LabHost,
    LabNetwork,
    Places,
)

BLOCK = 1 << 18  # bytes
PATIENCE = 30.0  # seconds until a network of another host must be here
POLL = 0.05  # seconds


class Unfit(NetkitError):
    """The engine of a host refused something of the lab."""


def populate(
    lab: Lab, host: LabHost, places: Places, engine: Engine, say: Say = lambda line: None
) -> None:
    """Create what is missing on the host; start containers that have ended again.

    Raises Unfit with the refused part and the reason.
    """
    for name in host.images:
        _in_step(f"image {name}", host, _image, engine, lab.image(name), places, say)
    with closing(LabDaemon(places, host.name).engine()) as netkitd:
        for net in host.networks:
            if name := _joined(host, net):
                _in_step(f"network {name}", host, _awaited, netkitd, name)
            if host.engine != PODMAN:  # its networks are files
                _in_step(f"network {net.name}", host, _network, engine, net)
        used = {n for c in host.containers for n in c.networks} & lab.shared()
        for name in sorted(used - {n.name for n in host.networks}):
            _in_step(f"network {name}", host, _awaited, netkitd, name)
    for container in host.containers:
        _in_step(f"container {container.name}", host, _container, engine, host, container)


def _in_step(what: str, host: LabHost, make: Any, *given: object) -> None:
    try:
        make(*given)
    except (Failure, ValueError) as bad:
        raise Unfit(f"{what} of {host.name}: {bad}") from bad


def _image(engine: Engine, image: Image, places: Places, say: Say) -> None:
    if lookup.image(engine, image.name):
        return
    name, _, tag = image.name.partition(":")
    query = {
        "fromSrc": "-", "repo": name, "tag": tag or "latest", "changes": images.changes(image),
        "message": f"netkit image bootstrap {image.bootstrap}" if image.bootstrap else "",
    }  # fmt: skip
    with images.archive(image, places.images, say) as file:
        answer = engine.stream("POST", "/images/create", query, _blocks(file))
        try:
            progress.show(engine.objects(answer), quiet=True)
        finally:
            answer.wire.close()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while data := os.read(source.fileno(), BLOCK):
            yield data


def _network(engine: Engine, net: LabNetwork) -> None:
    if lookup.network(engine, net.name):
        return
    argv = ["--driver", net.driver, *net.flags, net.name]
    options = read(network.create.flags, argv, "netkit net create")
    engine.post("/networks/create", body=network.request(options))


def _joined(host: LabHost, net: LabNetwork) -> str:
    """The network of netkit's that must be there for this one of another engine; "" if none."""
    given = net.options if host.engine == PODMAN else net.ipam_options
    return given.get(NETWORK_OPTION, "") if host.engine != NETKIT else ""


def _awaited(engine: Engine, name: str) -> None:
    """One that another host creates, or `weave launch`."""
    deadline = time.monotonic() + PATIENCE
    while not lookup.network(engine, name):
        if time.monotonic() > deadline:
            problems = engine.get("/netkit/cluster")["Problems"]
            raise ValueError(f"it has not come from another host in {PATIENCE:g} s: {problems}")
        time.sleep(POLL)


def _container(engine: Engine, host: LabHost, c: LabContainer) -> None:
    if not lookup.container(engine, c.name):
        first = dict(list(c.networks.items())[:1]) if host.engine != NETKIT else c.networks
        options = read(createflags.RUN, argv(c, first), "netkit run", interspersed=False)
        body = createbody.body(options)
        engine.post("/containers/create", {"name": c.name}, body)
        for name in [n for n in c.networks if n not in first]:  # dockerd 20.10 takes one at a time
            settings = {"IPAMConfig": {"IPv4Address": c.networks[name]}} if c.networks[name] else {}
            body = {"Container": c.name, "EndpointConfig": settings}
            engine.post(f"/networks/{name}/connect", body=body)
    engine.post(f"/containers/{c.name}/start")  # fine if it runs


def argv(c: LabContainer, networks: Mapping[str, str | None] | None = None) -> list[str]:
    """The arguments of `netkit run` that make this container; on other networks than its own."""
    out = ["--name", c.name, "--hostname", c.name, "--stop-timeout", "1"]
    for name, address in (c.networks if networks is None else networks).items():
        key = "driver-opt=netkit.addresses" if address and "/" in address else "ip"
        out += ["--network", f"name={name},{key}={address}" if address else name]
    for flag, values in (("--publish", c.ports), ("--link", c.links)):
        for value in values:
            out += [flag, value]
    return [*out, *c.flags, c.image, *c.command]
