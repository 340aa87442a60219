"""Run `netkit net trace` through a lab, with all its engines given."""

from __future__ import annotations

from ipaddress import IPv4Interface

from netkit.cli.trace import OnHost
from netkit.diagnose.trace.join import Trace, question, trace
from netkit.lab.daemon import LabDaemon
from netkit.lab.facts import Facts, Node


def traced(facts: Facts, source: str, target: str, service: str) -> Trace:
    """`target` is a name, or an address, or ADDRESS:PORT.

    A source without a daemon is an address to the others, which may come by `@INTERFACE`.
    NetkitError for a name that is not of this lab; netkit.client.failure.Failure if an engine does
    not answer.
    """
    name, at, nic = source.partition("@")
    node = facts.node(name)
    other = facts.node(target) if target in facts else _owner(facts, target)
    named = [h.name for h in facts.lab.hosts if h.daemon is not None]
    first = next(n for n in (node.host, other.host if other else "", *named) if n in named)
    order = sorted(named, key=lambda name: name != first)
    engines = {name: LabDaemon(facts.places, name).engine() for name in order}
    word = name
    if node.kind == "host":
        word = "host" if node.host in named else f"{node.address()}{at}{nic}"
    where = facts.between(node, other) if other and target in facts else target
    try:
        asked = question(word, where, service)
        return trace({name: OnHost(e) for name, e in engines.items()}, asked)
    finally:
        for engine in engines.values():
            engine.close()


def _owner(facts: Facts, target: str) -> Node | None:
    """Of an address."""
    address = target.partition(":")[0]
    return next((n for n in facts.nodes() if address in map(_ip, n.addresses.values())), None)


def _ip(address: IPv4Interface) -> str:
    return str(address.ip)
