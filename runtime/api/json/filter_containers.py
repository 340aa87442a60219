"""Filter and sort containers for `docker ps`.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from netkit.errors import InvalidSpec, NotFound
from netkit.timestamps import epoch_ns
from runtime.api.query import filter_flag, invalid_filter
from runtime.container.model import Container
from runtime.container.ports import parse_exposed

FILTERS = frozenset(
    {"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label",
     "name", "network", "publish", "since", "status", "volume"}
)  # fmt: skip
STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})
Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFilter:
    """A validated request.  `ancestors` are image ids, `network_ids` ids by network name."""

    filters: Filters = field(default_factory=dict)
    all: bool = False
    limit: int = 0  # the newest so many, running or not; 0: no limit
    ancestors: frozenset[str] = frozenset()
    network_ids: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Sequence[str]] = field(default_factory=dict)  # further names, by id

    def __post_init__(self) -> None:
        for name, allowed in (("status", STATES), ("health", _HEALTH), ("isolation", ("default",))):
            for value in self.filters.get(name, ()):
                if value not in allowed:
                    raise invalid_filter(name, value)
        for value in self.filters.get("exited", ()):
            if not re.fullmatch(r"-?[0-9]+", value):
                raise invalid_filter("exited", value)
        for name in ("publish", "expose"):
            for value in self.filters.get(name, ()):
                _ports(name, value)
        filter_flag({k: list(v) for k, v in self.filters.items()}, "is-task")


def select(containers: Iterable[Container], wanted: ContainerFilter) -> list[Container]:
    """Newest first.  NotFound if a container named by `before` or `since` is unknown."""
    containers = list(containers)
    newer, older = _bounds(containers, wanted.filters)
    every = wanted.all or wanted.limit > 0 or "status" in wanted.filters
    chosen = [
        c
        for c in containers
        if (every or c.state.status in {"running", "paused", "restarting"})
        and (older is None or epoch_ns(c.created) > older)
        and (newer is None or epoch_ns(c.created) < newer)
        and matches(c, wanted)
    ]
    # Last: of most requests few are left, and to read a time takes longer than to compare a name.
    chosen.sort(key=lambda c: (epoch_ns(c.created), c.id), reverse=True)
    return chosen[: wanted.limit] if wanted.limit > 0 else chosen


def _bounds(containers: Sequence[Container], filters: Filters) -> tuple[int | None, int | None]:
    """Creation times that `before` (oldest named) and `since` (newest named) stand for."""
    before = [epoch_ns(_named(containers, ref).created) for ref in filters.get("before", ())]
    since = [epoch_ns(_named(containers, ref).created) for ref in filters.get("since", ())]
    return (min(before) if before else None, max(since) if since else None)


def _named(containers: Sequence[Container], ref: str) -> Container:
    name = ref.removeprefix("/")
    by_name = [c for c in containers if ref == c.id or name == c.name]
    by_prefix = by_name or [c for c in containers if c.id.startswith(ref)]
    if len(by_prefix) != 1:
        raise NotFound(f"No such container: {ref}")
    return by_prefix[0]


def matches(c: Container, wanted: ContainerFilter) -> bool:
    """Docker's rules: values of one filter are alternatives, labels and filters add up."""
    return all(_one(name, values, c, wanted) for name, values in wanted.filters.items())


def _one(name: str, values: Sequence[str], c: Container, wanted: ContainerFilter) -> bool:
    match name:
        case "name":
            names = (c.name, *wanted.links.get(c.id, ()))
            return any(pattern_in(v, n) or pattern_in(v, f"/{n}") for v in values for n in names)
        case "id":
            return any(pattern_in(v, c.id) for v in values)
        case "label":
            return labelled(values, c.config.labels)
        case "status":
            return c.state.status in values
        case "exited":
            return _exited(c) and str(c.state.exit_code) in values
        case "health":
            return (c.state.health.status if c.state.health else "none") in values
        case "ancestor":
            return c.image in wanted.ancestors
        case "network":
            return any(_on(c, v, wanted.network_ids) for v in values)
        case "volume":
            return any(v in {m.name, m.source, m.destination} for m in c.mounts for v in values)
        case "publish":
            return _ports_meet(_published(c), name, values)
        case "expose":
            return _ports_meet(c.config.exposed_ports or {}, name, values)
        case "is-task":
            return not filter_flag({name: list(values)}, name)
        case _:  # before, since: bounds; isolation: always the default
            return True


def _published(c: Container) -> set[str]:
    """Requested host ports, "8080/tcp"."""
    return {
        f"{binding.host_port}/{port.partition('/')[2] or 'tcp'}"
        for port, bindings in (c.host_config.port_bindings or {}).items()
        for binding in bindings or ()
        if binding.host_port
    }


def _exited(c: Container) -> bool:
    return c.state.status in {"exited", "dead"} and not c.state.started_at.startswith("0001-")


def labelled(wanted: Sequence[str], labels: Mapping[str, str] | None) -> bool:
    """Do the labels include all of "key" or "key=value"?"""
    have = labels or {}
    for text in wanted:
        key, eq, value = text.partition("=")
        if key not in have or (eq and have[key] != value):
            return False
    return True


def pattern_in(pattern: str, text: str) -> bool:
    """Equal, or a regular expression found in it."""
    if pattern == text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error as error:
        raise InvalidSpec(f"invalid filter value {pattern!r}: {error}") from error


def _on(c: Container, ref: str, ids: Mapping[str, str]) -> bool:
    return any(
        ref in {name, ids.get(name)} or ids.get(name, name).startswith(ref) for name in c.networks
    )


def _ports(name: str, text: str) -> set[tuple[int, str]]:
    try:
        return set(parse_exposed(text))
    except InvalidSpec as error:
        raise invalid_filter(name, text) from error


def _ports_meet(have: Iterable[str], name: str, values: Sequence[str]) -> bool:
    asked = set().union(*(_ports(name, v) for v in values))
    return bool(asked & {pair for text in have for pair in parse_exposed(text)})
