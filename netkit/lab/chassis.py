"""Hosts of a lab as chassis of its OVN: servers first, one after the other."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from netkit.client.engine import Engine
from netkit.errors import KernelError
from netkit.lab.clustering import address, asking
from netkit.lab.daemon import LabDaemon
from netkit.lab.model import Lab, LabHost, Places
from netkit.lab.openvswitch import OpenVSwitch
from netkit.lab.ovn import NORTHBOUND, PORTS, SOUTHBOUND, Controller

HERE = "/netkit/ovn"


def flags(lab: Lab, host: LabHost) -> tuple[str, ...]:
    """Of the daemon of a host with an Open vSwitch: it is a chassis."""
    if not lab.ovn or not host.ovs:
        return ()
    tls = any(flag.startswith("--cluster-tls-") for flag in host.daemon or ())
    kind = "ssl" if tls else "tcp"
    servers = [f"{kind}:{address(lab, name)}" for name in lab.ovn]
    north, south = (
        ",".join(f"{server}:{PORTS[database]}" for server in servers)
        for database in (NORTHBOUND, SOUTHBOUND)
    )
    end = address(lab, host.name)
    return (f"--ovn-nb={north}", f"--ovn-sb={south}", f"--ovn-encap-ip={end}")


def serve(lab: Lab, places: Places, only: str = "") -> None:
    """Start the servers, or that of one host.  KernelError names the one that fails, and why."""
    for name in (n for n in lab.ovn if only in {"", n}):
        asking(places, name, "the servers of OVN", partial(_enter, lab, places, name))


def _enter(lab: Lab, places: Places, name: str, engine: Engine) -> None:
    """Join any that runs: the first host may be one that is made anew."""
    others = [n for n in lab.ovn if n != name and _runs(places, n)]
    body = {
        "Address": address(lab, name), "Insecure": True,
        "Server": address(lab, others[0]) if others else "",
    }  # fmt: skip
    engine.post(f"{HERE}/up", body=body)


def _runs(places: Places, name: str) -> bool:
    """Whether that host has servers."""
    found: list[str] = []
    if LabDaemon(places, name).pids():
        ask = partial(_read_address, found)
        asking(places, name, "the servers of OVN", ask)
    return any(found)


def _read_address(found: list[str], engine: Engine) -> None:
    found.append(engine.get(HERE)["Address"])


def control(places: Places, host: LabHost) -> None:
    """Its ovn-controller runs.  KernelError if it does not start."""
    vswitch = OpenVSwitch(places.netns(host.name), Path(places.ovs(host.name)))
    try:
        Controller(vswitch).start()
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as e:
        raise KernelError(f"ovn-controller of {host.name}: {e}") from e
