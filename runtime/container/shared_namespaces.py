"""Resolve `container:X` of --network, --pid and --ipc: namespaces of another container.

X need not exist before the start.  It is stored by id, so that X may be renamed.
"""

from __future__ import annotations

from collections.abc import Callable

from netkit.errors import Conflict, NetkitError, NotFound
from runtime.container.config import HostConfig
from runtime.container.model import Container

CONTAINER = "container:"
Find = Callable[[str], Container]  # NotFound


def by_id(host: HostConfig, find: Find) -> None:
    """Replace names of containers that exist by their ids, as Docker does at creation."""
    host.network_mode = _by_id(host.network_mode, find)
    host.pid_mode = _by_id(host.pid_mode, find)
    host.ipc_mode = _by_id(host.ipc_mode, find)


def _by_id(mode: str, find: Find) -> str:
    if not mode.startswith(CONTAINER):
        return mode
    try:
        return CONTAINER + find(mode.removeprefix(CONTAINER)).id
    except NetkitError:
        return mode  # the start fails if it is still missing


def network_owner(c: Container, find: Find) -> Container:
    """The container whose network namespace `c` starts in: itself, or a running one.

    Conflict if there is none; not NotFound, which clients would take for `c` itself.
    """
    if c.host_config.network_of is None:
        return c
    try:
        other = find(c.host_config.network_of)
    except NotFound as e:
        raise Conflict(f"joining network namespace of container: {e}") from e
    if other.id == c.id:
        raise Conflict("cannot join own network namespace")
    if not other.state.alive:
        raise Conflict(
            f"cannot join network namespace of a non running container: container {other.name} "
            f"is {other.state.status}"
        )
    return network_owner(other, find)


def home(c: Container, find: Find) -> Container | None:
    """The container whose network namespace `c` runs in; None if it was removed."""
    passed: set[str] = set()
    while c.host_config.network_of is not None and c.id not in passed:
        passed.add(c.id)
        try:
            c = find(c.host_config.network_of)
        except NetkitError:
            return None
    return c
