"""Launch the weave overlay on a lab's hosts: who founds it first, then the others, at once."""

from __future__ import annotations

import time

from netkit.cli import weaveflags
from netkit.cli.flags import read
from netkit.client.engine import Engine
from netkit.client.failure import Failure
from netkit.errors import KernelError
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import Lab, LabHost, Places

PATIENCE = 120.0  # seconds until a host that was given peers must be connected to all
POLL = 0.1  # seconds
HERE = "/netkit/weave"
PASSWORD = "--password="


def founds(host: LabHost) -> bool:
    """Whether it is launched without peers: those that look for it need it to be there."""
    return all(word.startswith("-") for word in host.weave or ())


def launch(lab: Lab, host: LabHost, places: Places) -> None:
    """Launch it unless it is; with peers, wait for connections to all that are alive.  KernelError.

    To one that is reached by a third only that takes some seconds.
    """
    engine = LabDaemon(places, host.name).engine()
    try:
        if engine.get(HERE)["Launched"]:
            return
        given = words(lab, host)
        password = [word.removeprefix(PASSWORD) for word in given if word.startswith(PASSWORD)]
        others = [word for word in given if not word.startswith(PASSWORD)]
        options = read(weaveflags.LAUNCH, others, "weave launch")
        environ = {"WEAVE_PASSWORD": "".join(password)}  # as a flag it would be warned of
        engine.post(f"{HERE}/launch", body=weaveflags.body(options, environ))
        if not founds(host):
            _await(engine, everyone="--no-discovery" not in given)
    except Failure as bad:
        raise KernelError(f"weave of {host.name}: {bad}") from bad
    finally:
        engine.close()


def _await(engine: Engine, everyone: bool) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        status = engine.get(HERE)["Status"] or {"id": "", "peers": [], "connections": []}
        known = status["connections"]
        connected = {each["peer"] for each in known if each["state"] == "established"}
        alive = {each["id"] for each in status["peers"] if each["state"] == "alive"}
        if connected and (connected >= alive - {status["id"]} or not everyone):
            return
        if time.monotonic() > deadline:
            tried = (f"{each['address']} {each['state']} {each['reason']}" for each in known)
            raise Failure(f"not connected to all peers in {PATIENCE:g} s: {'; '.join(tried)}")
        time.sleep(POLL)


def words(lab: Lab, host: LabHost) -> list[str]:
    """The words of `weave launch` on a host: addresses for hosts."""
    given = host.weave or ()
    flags = [word for word in given if word.startswith("-")]
    peers = [address(lab, host, word) for word in given if not word.startswith("-")]
    return [*flags, *peers]


def address(lab: Lab, host: LabHost, peer: str) -> str:
    """By which a host looks for another: on a segment of both if there is one, or the first."""
    other = lab.host(peer)
    found = [i for i in other.interfaces if i.address] if other is not None else []
    near = {i.segment for i in host.interfaces}
    first = sorted(found, key=lambda i: i.segment not in near)
    return str(first[0].address.ip) if first and first[0].address else ""
