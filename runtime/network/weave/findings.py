"""What `net check` and `fw check` find of the weave overlay: lines with advice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from netkit.driver import OverlayPorts
from netkit.errors import KernelError
from netkit.kernel.netlink.tunnels import devices_up
from netkit.kernel.nftables.senders import TABLE, State, state

RESTORED = 1.0  # seconds in which a process that runs has its table back
SHOWN = 20  # lines about conflicts and refused addresses
LAUNCH = "netkit weave launch"
CHOSEN = "launched with --no-fastdp"  # no fault


class Overlay(Protocol):
    """The engine's part of the overlay (runtime.api.backend.weave)."""

    def status(self) -> dict[str, Any]: ...


class WeaveFindings:
    """`ports` are those of the host's networks by their names."""

    def __init__(self, weave: Overlay, ports: Callable[[], Mapping[str, OverlayPorts]]) -> None:
        self._weave, self._ports = weave, ports

    def all(self, networks: Sequence[str] = ()) -> list[str]:
        """Of these networks, or of all, as far as they go over the overlay."""
        ports = self._ports()
        if networks:
            ports = {name: each for name, each in ports.items() if name in networks}
        if not ports:
            return []
        status = self._weave.status()
        return [*of_status(status, ports), *self._senders(ports, running=bool(status["Running"]))]

    def senders(self) -> list[str]:
        """Whether somebody may send by VXLAN unchecked."""
        ports = self._ports()
        return self._senders(ports, running=bool(self._weave.status()["Running"])) if ports else []

    def _senders(self, ports: Mapping[str, OverlayPorts], *, running: bool) -> list[str]:
        devices = {each.vxlan: name for name, each in ports.items() if each.vxlan}
        deadline = time.monotonic() + (RESTORED if running else 0)
        try:
            while True:
                open_ = [devices[name] for name in devices_up("", devices)]
                found = state("", next(iter(ports.values())).port)
                if not open_ or found == "intact":
                    return []
                if time.monotonic() >= deadline:
                    return [unchecked(open_, found, running=running)]
                time.sleep(0.05)
        except KernelError as error:
            return [f"who may send by VXLAN cannot be looked at: {error}"]


def unchecked(networks: Iterable[str], found: State, *, running: bool) -> str:
    how = "is gone" if found == "absent" else "was changed by another tool"
    what = f"table ip {TABLE}, which checks who sends VXLAN frames to {', '.join(sorted(networks))}"
    if running:
        return f"{what}, {how}, and does not come back: netkit weave report"
    return f"{what}, {how}, and the overlay's process, which keeps it, does not run: {LAUNCH}"


def of_status(status: Mapping[str, Any], networks: Iterable[str]) -> list[str]:
    """`status` as `GET /netkit/weave` answers."""
    problems = [str(each) for each in status["Warnings"]]
    if status["Launched"] and not status["Running"]:
        why = f" ({'; '.join(problems)})" if problems else ""
        return [
            "the weave overlay was launched and does not run; it is tried again and again, and "
            "containers of other hosts may be out of reach: what the forwarding tables have of "
            f"them is neither compared nor repaired until it runs{why}"
        ]
    if not status["Running"]:
        return []
    overlay, process = status["Status"], status["Process"]
    ipam = overlay["ipam"]
    lines = [*problems, *overlay["warnings"], *process["problems"], *ipam["conflicts"]]
    if ipam["fenced"] is not None and ipam["fenced"] not in overlay["warnings"]:
        lines.append(
            "containers' addresses are cut off from other hosts (fenced): "
            f"{ipam['fenced']}: netkit weave status ipam"
        )
    lines += [
        f"network {each['name']}: {conflict}: give one of the two another address"
        for each in overlay["networks"] if each["name"] in networks
        for conflict in each["conflicts"]
    ][:SHOWN]  # fmt: skip
    why = process["no_fastdp"]
    if why and CHOSEN not in why:
        lines.append(f"nothing goes by the kernel (fastdp), all by the sleeve: {why}")
    return lines
