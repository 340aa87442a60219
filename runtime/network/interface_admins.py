"""Which containers may change their own interfaces: those that have CAP_NET_ADMIN."""

from __future__ import annotations

from netkit.errors import NetkitError
from runtime.container.model import Container
from runtime.container.shared_namespaces import home
from runtime.container.store import ContainerStore
from runtime.oci.capabilities import ALL, chosen

NET_ADMIN = "CAP_NET_ADMIN"


def administered(store: ContainerStore) -> set[str]:
    """Ids of the containers in whose network namespace one with CAP_NET_ADMIN runs."""
    admins = (c for c in store.all() if c.state.alive and may_administer(c))
    return {at.id for c in admins if (at := home(c, store.find)) is not None}


def may_administer(c: Container) -> bool:
    host = c.host_config
    if not host.privileged and not host.cap_add:
        return False
    try:
        caps = chosen(host.cap_add or (), host.cap_drop or (), privileged=host.privileged, have=ALL)
    except NetkitError:
        return True  # it does not start with these, and nothing is known of what runs
    return NET_ADMIN in caps
