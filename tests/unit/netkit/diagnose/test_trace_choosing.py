"""Which addresses a trace between two names is about."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from netkit.diagnose.choosing import Attached, Place, choose, on_network
from netkit.diagnose.explain.facts import Interface
from netkit.diagnose.explain.facts import Path as Route
from netkit.diagnose.trace.facts import HOST, Way
from netkit.diagnose.trace.join import question, trace
from netkit.diagnose.trace.leg import Ask
from netkit.errors import NotFound
from tests.unit.netkit.diagnose.test_trace import OneHost, Scripted, box, town

DOCKER = ("172.17.0.0/16",)


def place(name: str, *addresses: Attached) -> Place:
    return Place(name=name, space=name, addresses=addresses, local=DOCKER)


def weave(address: str, length: int = 12) -> Attached:
    return Attached("weave", address, length, shared=True)


def bridge(address: str) -> Attached:
    return Attached("bridge", address, 16)


N3 = place("n3", bridge("172.17.0.2"), weave("10.32.128.1"))
WEB = place("web", bridge("172.17.0.2"), weave("10.32.0.1"))


def test_between_hosts_it_is_a_network_of_both_and_never_a_bridge_of_one() -> None:
    chosen = choose(N3, WEB, apart=True)
    assert chosen.address == "10.32.0.1"
    assert chosen.note == (
        "web has 172.17.0.2 on bridge, 10.32.0.1 on weave: 10.32.0.1 on weave is taken; "
        "an address, or web:NETWORK, chooses"
    )
    for target in (on_network(WEB, "bridge"), place("web", bridge("172.17.9.9"))):
        with pytest.raises(NotFound, match="n3 and web have no network in common"):
            choose(N3, target, apart=True)
    routed = choose(N3, place("web", Attached("far", "172.30.0.2", 16)), apart=True)
    assert routed.address == "172.30.0.2"
    far = place("web", Attached("far", "172.30.0.2", 16))
    assert choose(N3, far, apart=True, explicit=True).note == "", "it was chosen"
    assert routed.note.startswith("n3 and web have no network in common; 172.30.0.2 on far")


def test_segments_of_other_names_on_either_host_are_one_by_their_subnet() -> None:
    one = place("one", bridge("172.17.0.2"), Attached("lan1", "10.9.0.1", 24, shared=True))
    two = place("two", bridge("172.17.0.3"), Attached("x", "172.31.0.1", 24),
                Attached("lan2", "10.9.0.2", 24, shared=True))  # fmt: skip
    assert choose(one, two, apart=True).address == "10.9.0.2"


def test_of_one_host_it_is_the_first_network_by_which_names_are_found() -> None:
    lane = Attached("lane", "10.5.0.1", 24), Attached("lane", "10.5.0.2", 24)
    one = place("one", lane[0], bridge("172.17.0.2"))
    two = place("two", bridge("172.17.0.3"), lane[1])
    assert choose(one, two, apart=False).address == "10.5.0.2"
    assert choose(on_network(one, "bridge"), two, apart=False).address == "172.17.0.3"
    assert choose(one, place("two", lane[1]), apart=False).note == ""


def test_of_several_addresses_on_a_network_it_is_the_one_in_a_subnet_of_the_sender() -> None:
    two = place("two", weave("10.2.1.1", 24), weave("10.32.0.1"))
    assert choose(N3, two, apart=True).address == "10.32.0.1"
    near = place("one", weave("10.2.1.9", 24))
    for apart in (True, False):
        assert choose(near, two, apart=apart).address == "10.2.1.1"


@pytest.mark.parametrize(("apart", "address"), [(True, "10.32.0.1"), (False, "172.17.0.2")])
def test_a_host_reaches_its_own_by_bridges_and_others_by_shared_networks(
    apart: bool, address: str
) -> None:
    host = Place(name=HOST, space=HOST, local=DOCKER)
    for source in (host, None):
        assert choose(source, WEB, apart=apart).address == address


def test_a_trace_asks_for_the_address_and_says_so() -> None:
    here, there = Scripted([], known=N3), Scripted([], known=replace(WEB, running=True))
    with pytest.raises(NotFound, match="no network in common"):
        trace({"h2": here, "h1": there}, question("n3", "web:bridge", "tcp/80"))
    assert not here.asked


def test_an_address_is_the_source_where_it_is_given() -> None:
    fake = town()
    inside = box("client")
    eth0 = Interface(name="eth0", addresses=(IPv4Interface("172.17.0.3/16"),
                                             IPv4Interface("172.17.0.9/16")))  # fmt: skip
    facts = replace(inside.facts, interfaces={**inside.facts.interfaces, "eth0": eth0})
    fake.spaces["client"] = replace(inside, facts=facts)
    there = Attached("bridge", "172.17.0.9", 16)
    engine = OneHost(fake)
    known = Place(name="client", space="client", addresses=(there,))
    engine.locate = lambda name: known if name == there.address else place(  # type: ignore[method-assign]
        name, Attached("bridge", "172.17.0.2", 16))  # fmt: skip
    found = trace({"here": engine}, question(there.address, "web", "tcp/80"))
    assert found.packet == "172.17.0.9 -> 172.17.0.2 tcp/80"


def test_the_source_of_several_is_the_kernels_choice() -> None:
    fake = town()
    inside = box("client")
    eth0 = Interface(name="eth0", addresses=(IPv4Interface("10.2.1.1/24"),
                                             IPv4Interface("172.17.0.3/16")))  # fmt: skip
    routes = (Route(dst=IPv4Network("10.2.1.0/24"), dev="eth0"), *inside.facts.routes)
    facts = replace(inside.facts, interfaces={**inside.facts.interfaces, "eth0": eth0},
                    routes=routes)  # fmt: skip
    fake.spaces["client"] = replace(inside, facts=facts)
    fake.ways["client", "172.17.0.2"] = Way(
        dev="eth0", prefix="172.17.0.0/16", source=IPv4Address("172.17.0.3")
    )
    ask = Ask(proto="tcp", port=80, source="client", address="172.17.0.2")
    for own, sent in (((), "172.17.0.3"), (("10.2.1.1", "172.17.0.3"), "172.17.0.3"),
                      (("10.2.1.1",), "10.2.1.1")):  # fmt: skip
        found = OneHost(fake).leg(replace(ask, own=own))
        assert found.sent is not None
        assert found.sent.src == sent
