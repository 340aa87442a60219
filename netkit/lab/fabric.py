"""The wires of a lab as resources, made by the same planner that makes networks.

One namespace holds a bridge for each segment.  A host's interface is a veth pair: one end is a
port of the bridge, the other is born in the host with its name.  IPv6 is off: netkit has none
yet, and its chatter would be in every capture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from netkit.driver import derive_mac
from netkit.kernel.host import Host
from netkit.lab.model import UNDERLAY, Interface, Lab, LabHost, Places
from netkit.model import Addr, Link, Peer, Resource, Route, Sysctl, state
from netkit.reconcile.converge import Change, converge

IFNAMSIZ = 15  # characters, without the final zero


def owner(lab: str) -> str:
    return f"netkit:lab.{lab}:"


def segments(lab: Lab) -> Iterator[Resource]:
    """Inside the underlay's namespace, which is HOST here."""
    quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", owner=owner(lab.name))
    yield quiet
    for s in lab.segments:
        yield Link(
            name=s.name,
            kind="bridge",
            mtu=s.mtu,
            mac=derive_mac("segment", lab.name, s.name),
            owner=owner(lab.name),
            depends_on=(quiet.key,),
        )


def wires(lab: Lab, host: LabHost, ns: str) -> Iterator[Resource]:
    """Of one host, whose namespace exists at `ns`."""
    mark = owner(lab.name)
    quiet = Sysctl(name="net/ipv6/conf/default/disable_ipv6", value="1", ns=ns, owner=mark)
    yield quiet
    for name, value in host.sysctls.items():
        yield Sysctl(name=name.replace(".", "/"), value=value, ns=ns, owner=mark)
    for i in host.interfaces:
        near = port(host.name, i.name)
        segment = next(s for s in lab.segments if s.name == i.segment)
        yield Link(
            name=near,
            kind="veth",
            peer=Peer(ns=ns, name=i.name, mac=mac(lab, host, i)),
            master=i.segment,
            mtu=segment.mtu,
            owner=mark,
            depends_on=(quiet.key,),
        )
        if i.address:
            yield Addr(dev=i.name, address=i.address, ns=ns, via=near, owner=mark)
    for route in host.routes:
        i = next((i for i in host.interfaces if i.address and route.gateway in i.address.network),
                 host.interfaces[0])  # fmt: skip
        yield Route(
            dst=route.dst,
            dev=i.name,
            ns=ns,
            gateway=route.gateway,
            via=port(host.name, i.name),
            owner=mark,
            depends_on=(("addr", ns, i.name, str(i.address)),),
        )


def mac(lab: Lab, host: LabHost, interface: Interface) -> str:
    return interface.mac or derive_mac("interface", lab.name, host.name, interface.name)


def port(host: str, interface: str) -> str:
    """The name of the bridge's end: readable where it fits."""
    return short(f"{host}-{interface}")


def short(name: str) -> str:
    """As the kernel takes it: where it is too long, its begin and a digest."""
    if len(name) <= IFNAMSIZ:
        return name
    return f"{name[:8]}{hashlib.sha256(name.encode()).hexdigest()[:7]}"


def lay(lab: Lab, places: Places, *resources: Resource) -> None:
    """Make them so; nothing is done to what is so already.  KernelError, Conflict."""
    mark = owner(lab.name)
    host = Host(places.netns(UNDERLAY))
    converge(Change.of(state(resources)), host, lambda r: r.owner == mark)
