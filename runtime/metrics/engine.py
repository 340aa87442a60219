"""Containers, images, volumes, the API, and what runs here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from runtime.api.server.request_tally import RequestTally
from runtime.metrics.figures import Figures, by, many, one

# Of runtime.container.model.State.
STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


def containers(states: Callable[[], Iterable[str]]) -> Iterator[Figures]:
    """`states` returns that of each container."""
    found = Counter(states())
    yield by("netkit_containers", {state: found[state] for state in STATES})


def objects(images: Callable[[], int], volumes: Callable[[], int]) -> Iterator[Figures]:
    yield one("netkit_images", images())
    yield one("netkit_volumes", volumes())


def requests(tally: RequestTally) -> Iterator[Figures]:
    yield many("netkit_api_requests_total", tally.counts())
    yield one("netkit_api_open_requests", tally.open)


def build(facts: Mapping[str, str]) -> Iterator[Figures]:
    """`facts`: version, python, kernel, runtime, firewall."""
    names = ("version", "python", "kernel", "runtime", "firewall")
    yield many("netkit_build_info", {tuple(facts[name] for name in names): 1})
