"""Find containers that may change their own interfaces: those with CAP_NET_ADMIN."""

from __future__ import annotations

from netkit.errors import NetkitError
from runtime.container.model import Container
from runtime.container.shared_namespaces import home
from runtime.container.store import ContainerStore
from runtime.oci.capabilities import ALL, chosen

NET_ADMIN = "CAP_NET_ADMIN"


def administered(store: ContainerStore) -> set[str]:
    """Ids of containers whose network namespace has a container with CAP_NET_ADMIN."""
    admins = (c for c in store.all() if c.state.alive and may_administer(c))
    return {at.id for c in admins if (at := home(c, store.find)) is not None}


def administers(store: ContainerStore, id: str) -> bool:
    """Whether the container with this id may, not asking for others in its namespace.

    Of one that another engine runs it is not known: it may.
    """
    c = store.get(id)
    return c is None or may_administer(c)


def may_administer(c: Container) -> bool:
    host = c.host_config
    if not host.privileged and not host.cap_add:
        return False
    try:
        caps = chosen(host.cap_add or (), host.cap_drop or (), privileged=host.privileged, have=ALL)
    except NetkitError:
        return True  # invalid for a new start: what it runs with is unknown
    return NET_ADMIN in caps
