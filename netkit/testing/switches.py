"""What Open vSwitch enforces, in the kernel made of a dict."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import replace

from netkit.errors import KernelError
from netkit.model import HOST, Key, Resource
from netkit.model.openvswitch import OvsBridge, OvsFlows, OvsPort
from netkit.model.ovn import INTEGRATION

Things = MutableMapping[Key, Resource]


def must_fit(things: Mapping[Key, Resource], r: Resource, bridge: str) -> None:
    """A port, route or flows: their bridge is there, and so are the ports they name.

    A tunnel is one of a kind: the whole switch has no two to one place with one key.
    """
    if ("ovsbridge", bridge) not in things:
        raise KernelError(f"{r.key}: Open vSwitch has no bridge {bridge}", errno=errno.ENOENT)
    if isinstance(r, OvsPort) and r.options:
        for x in things.values():
            same = isinstance(x, OvsPort) and (x.kind, x.options) == (r.kind, r.options)
            if same and x.key != r.key:
                raise KernelError(f"{r.key}: same configuration as {x.key}", errno=errno.EEXIST)
    for port in r.ports if isinstance(r, OvsFlows) else ():
        if ("ovsport", port) not in things:
            raise KernelError(f"{r.key}: no port {port}", errno=errno.EINVAL)


def remove(
    things: Things, r: OvsBridge | OvsPort, forget: Callable[[Callable[[Resource], bool]], None]
) -> None:
    """A bridge goes with all that is in it and on it; flows of a port stay, and lead nowhere."""
    if isinstance(r, OvsPort) and r.kind == "internal":
        forget(lambda x: (getattr(x, "ns", None), getattr(x, "dev", None)) == (HOST, r.name))
    if isinstance(r, OvsBridge):
        forget(lambda x: getattr(x, "bridge", None) == r.name)
        forget(lambda x: (getattr(x, "ns", None), getattr(x, "dev", None)) == (HOST, r.name))
        return
    for key, x in things.items():
        if isinstance(x, OvsFlows):
            things[key] = replace(x, ports=x.ports - {r.name})


def integrate(things: Things) -> None:
    """On a chassis of OVN there is ovn-controller's bridge."""
    bridge = OvsBridge(name=INTEGRATION, datapath="netdev", up=False)
    things.setdefault(bridge.key, bridge)


def detach(things: Things, link: str) -> None:
    """Delete the link of a port: the port stays, but does not take another link of that name."""
    bridge = things.get(("ovsbridge", link))
    if isinstance(bridge, OvsBridge):
        things[bridge.key] = replace(bridge, up=False)
    port = things.get(("ovsport", link))
    if isinstance(port, OvsPort) and not port.kind:
        things[port.key] = replace(port, attached=False)


def with_owner(things: Mapping[Key, Resource], r: Resource) -> Resource:
    """Flows belong to the owner of their bridge."""
    if not isinstance(r, OvsFlows):
        return r
    return replace(r, owner=things[("ovsbridge", r.bridge)].owner)
