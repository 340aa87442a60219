"""The engines that a page shows, and what else it needs of a lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from netkit.client.endpoint import Endpoint
from netkit.client.engine import Engine
from netkit.diagnose.trace.join import Trace

HERE = "here"  # name of the engine where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A host: `netkit` is its netkitd, `engine` what runs its containers, which may be another."""

    name: str
    netkit: Endpoint
    engine: Endpoint

    def networks(self) -> Engine:
        """A new connection to netkitd; the caller closes it."""
        return Engine(self.netkit)

    def containers(self) -> Engine:
        """A new connection to what runs containers; the caller closes it."""
        return Engine(self.engine)


class LabControl(Protocol):
    """A lab that is shown.  All of it blocks; NetkitError and Failure have a line for the user."""

    @property
    def name(self) -> str: ...

    def document(self) -> Mapping[str, Any]:
        """What does not change: its hosts, segments, checks."""

    def trace(self, source: str, target: str, service: str) -> Trace | None:
        """As `netkit lab exec LAB HOST netkit net trace`; None: not between names of lab.yml."""

    def links(self) -> Mapping[str, Mapping[str, str]]:
        """By link HOST@INTERFACE of hosts that are up: {"Impaired", "Drift"}, "" for none."""

    def act(
        self, verb: str, say: Callable[[str], None], given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """`up`, `check`, `down`, or `impair` with `link` and `words`; `say` gets progress."""
