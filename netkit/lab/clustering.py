"""Form the cluster of a lab's hosts: servers first, one after the other, then the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from netkit.client.engine import Engine
from netkit.client.failure import Failure
from netkit.errors import KernelError
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import Lab, LabHost, Places

PATIENCE = 60.0  # seconds until all hosts must know each other
POLL = 0.1  # seconds
PORT = 6640
HERE = "/netkit/cluster"


def flags(lab: Lab, host: LabHost) -> tuple[str, ...]:
    """Of the daemon of a host that has no server: where they are."""
    if not lab.cluster or host.name in lab.cluster:
        return ()
    tls = any(flag.startswith("--cluster-tls-") for flag in host.daemon or ())
    kind = "ssl" if tls else "tcp"
    servers = (f"{kind}:{address(lab, name)}:{PORT}" for name in lab.cluster)
    return (f"--cluster=ovsdb:{','.join(servers)}",)


def address(lab: Lab, host: str) -> str:
    """By which the others know a host: that of its first interface that has one."""
    found = lab.host(host)
    interfaces = found.interfaces if found is not None else ()
    return next((str(i.address.ip) for i in interfaces if i.address), "")


def gather(lab: Lab, places: Places, only: str = "") -> None:
    """Join all hosts, or one, to the cluster.  KernelError names the one that fails, and why."""
    members = [h.name for h in lab.hosts if h.daemon is not None]
    asked = [name for name in members if only in {"", name}]
    for name in (n for n in lab.cluster if n in asked):
        asking(places, name, "the cluster", partial(_enter, lab, name))
    for name in asked if not only else ():
        asking(places, name, "the cluster", partial(_await, len(members)))


def _enter(lab: Lab, name: str, engine: Engine) -> None:
    if engine.get(HERE)["Remotes"]:
        return
    first, own = lab.cluster[0], address(lab, name)
    if name == first:
        engine.post(f"{HERE}/init", body={"Address": own})
    else:
        engine.post(f"{HERE}/join", body={"Server": address(lab, first), "Address": own})


def _await(hosts: int, engine: Engine) -> None:
    deadline = time.monotonic() + PATIENCE
    while len((found := engine.get(HERE))["Hosts"]) < hosts:
        if time.monotonic() > deadline:
            raise Failure(f"it sees {len(found['Hosts'])} of {hosts} hosts: {found['Problems']}")
        time.sleep(POLL)


def asking(places: Places, host: str, what: str, act: Callable[[Engine], None]) -> None:
    """Have the engine of a host do it.  KernelError that names `what`, and the host."""
    engine = LabDaemon(places, host).engine()
    try:
        act(engine)
    except Failure as bad:
        raise KernelError(f"{what} of {host}: {bad}") from bad
    finally:
        engine.close()
