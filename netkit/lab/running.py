"""A running lab as tests see it: hosts and containers by name, and what can be asked of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netkit.diagnose.trace.join import Trace
from netkit.errors import KernelError, NotFound
from netkit.lab import building, checking, commands, engines, reading, report
from netkit.lab.checking import SETTLE_SECONDS, Result
from netkit.lab.checks import Check, parse
from netkit.lab.daemon import LabDaemon, clean_environment
from netkit.lab.facts import Facts, Node
from netkit.lab.model import Places
from netkit.lab.tracing import traced

if TYPE_CHECKING:
    from netkit.testing.packets import Sendable, Tap

COMMAND_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether what was asked holds, and why: true in an `if`, and readable when it is not."""

    results: tuple[Result, ...]

    def __bool__(self) -> bool:
        return report.passed(self.results)

    @property
    def verdict(self) -> str:
        """open, closed, filtered, unrouted; "" where it could not be asked."""
        seen = self.results[0].seen
        return seen.verdict if seen else ""

    def __repr__(self) -> str:
        """What does not hold, if something does not: pytest cuts long ones in the middle."""
        bad = tuple(r for r in self.results if r.standing != "pass")
        shown = report.table(bad or self.results)
        return f"<{len(bad)} of {len(self.results)} do not hold:\n{shown}>" if bad else f"<{shown}>"


class Machine:
    """A host or a container."""

    def __init__(self, lab: RunningLab, name: str) -> None:
        self.lab, self.name = lab, name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{self.name} of lab {self.lab.name}>"

    @property
    def node(self) -> Node:
        """As it is now: an address may change with a restart."""
        return Facts(self.lab.lab, self.lab.places).node(self.name)

    @property
    def ip(self) -> str:
        return self.node.address()

    def address(self, where: str) -> str:
        """On a network of a container, or an interface of a host."""
        return self.node.address(where)

    @property
    def netns(self) -> str:
        """Path of its namespace.  KernelError if it does not run."""
        node = self.node
        if not node.running:
            raise KernelError(f"{self.name} does not run ({node.state})")
        return node.netns

    @property
    def daemon(self) -> LabDaemon:
        """The netkitd of the host it is on."""
        return LabDaemon(self.lab.places, self.node.host)

    # asking

    def can_reach(
        self, other: Machine | str, service: str = "icmp", within: float = SETTLE_SECONDS
    ) -> Reach:
        """An answer comes within so many seconds.  `other` may be "h1:8080" or an address."""
        return self._asked(other, service, "ok", within)

    def cannot_reach(self, other: Machine | str, service: str = "icmp") -> Reach:
        """Nothing answers, not even a refusal, though the target lives and the source can ask."""
        return self._asked(other, service, "blocked", 0.0)

    def _asked(self, other: Machine | str, service: str, outcome: str, within: float) -> Reach:
        words = "" if ":" in str(other) and service == "icmp" else service
        check = parse(f"{self} -> {other} {words} {outcome}")
        return Reach(tuple(self.lab.ask([check], within)))

    # doing

    def run(self, *argv: str, check: bool = True) -> str:
        """What a command prints, on the host or in the container.  KernelError if it fails."""
        node = self.node
        if node.kind == "container":
            return self.lab.engine_command(node.host, "exec", self.name, *argv, check=check)
        return commands.run(self.lab.places, node.host, argv)

    def netkit(self, *argv: str, check: bool = True) -> str:
        """A netkit command, given to the engine of the host."""
        return self.lab.netkit(self.node.host, *argv, check=check)

    # packets; all but `mac` need scapy

    def mac(self, iface: str = "eth0") -> str:
        from netkit.kernel.packet_socket import hardware_address

        return hardware_address(self.netns, iface)

    def send(self, packet: Sendable, iface: str = "eth0") -> None:
        """Ether frames leave by `iface` as they are; IP packets go where the kernel routes them."""
        from netkit.testing.packets import send

        send(self.netns, packet, iface)

    def tap(self, iface: str = "eth0") -> Tap:
        """Everything on the interface from `with` on; see `Tap`."""
        from netkit.testing.packets import Tap

        return Tap(self.netns, iface)


class RunningLab:
    """`lab.web` is the container or host of that name."""

    def __init__(self, folder: str, name: str = "") -> None:
        self.lab = reading.read(folder, name)
        self.places = Places(lab=self.lab.name)

    @property
    def name(self) -> str:
        return self.lab.name

    def __getattr__(self, name: str) -> Machine:
        if not name.startswith("_") and name in Facts(self.lab, self.places):
            return Machine(self, name)
        known = ", ".join(Facts(self.lab, self.places))
        raise AttributeError(f"lab {self.lab.name} has no {name!r} (there are: {known})")

    def __getitem__(self, name: str) -> Machine:
        return Machine(self, name)

    def up(self) -> None:
        building.up(self.lab, self.places, _quiet)

    def down(self) -> None:
        building.down(self.places)

    def restart(self, host: str) -> None:
        """The host's daemon, as by its init."""
        building.restart(self.lab, self.places, host)

    def revive(self, host: str) -> None:
        """What has died of the host's Open vSwitch and daemon is started, as by its init.

        KernelError if something does not start.
        """
        found = self.lab.host(host)
        if found is None:
            raise NotFound(f"lab {self.name} has no host {host!r}")
        building.revive(self.lab, self.places, found)

    def ask(self, checks: Sequence[Check], within: float = SETTLE_SECONDS) -> list[Result]:
        return checking.run(Facts(self.lab, self.places), checks, within)

    def check(self) -> Reach:
        """All checks of lab.yml."""
        return Reach(tuple(self.ask(self.lab.checks)))

    def trace(self, source: str, target: str, service: str, facts: Facts | None = None) -> Trace:
        """Return what `netkit net trace` shows, with all engines of the lab given.

        `target` is a name, or an address, or ADDRESS:PORT.  A source without a daemon is an address
        to the others, which may come by `@INTERFACE`.  With `facts` of before, where they still
        hold, nodes and addresses are not read again.
        """
        found = Facts(self.lab, self.places) if facts is None else facts
        return traced(found, source, target, service)

    def netkit(self, host: str, *argv: str, check: bool = True) -> str:
        """What a netkit command prints that is given to a host's engine.

        KernelError if it fails, unless `check` is false.
        """
        return self._client(LabDaemon(self.places, host).url, host, *argv, check=check)

    def engine_command(self, host: str, *argv: str, check: bool = True) -> str:
        """As `netkit`, given to what runs the host's containers, which may be dockerd or podman."""
        return self._client(engines.serving(self.places, host).url, host, *argv, check=check)

    def _client(self, url: str, host: str, *argv: str, check: bool) -> str:
        command = [sys.executable, "-m", "netkit", "-H", url, *argv]
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
            timeout=COMMAND_SECONDS, env=clean_environment(),
        )  # fmt: skip
        if check and done.returncode != 0:
            raise KernelError(f"{host}: netkit {' '.join(argv)}: {done.stderr or done.stdout}")
        return done.stdout


def _quiet(message: str) -> None:
    """Discard progress messages, for tests."""


__all__ = ["Machine", "Reach", "RunningLab"]
