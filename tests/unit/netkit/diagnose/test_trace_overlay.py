"""Traces over an overlay, on two hosts written down here: no root, no kernel, no process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from netkit.diagnose.choosing import Attached
from netkit.diagnose.choosing import Place as Known
from netkit.diagnose.explain.facts import Container, Facts, Interface, Place
from netkit.diagnose.explain.facts import Path as Route
from netkit.diagnose.trace.facts import (
    HOST,
    Endpoint,
    Located,
    Nic,
    OverlayNetwork,
    Socket,
    Space,
)
from netkit.diagnose.trace.join import Trace, question, trace
from netkit.driver import OverlayPorts
from netkit.errors import InvalidSpec, KernelError, NotFound
from netkit.model.vxlan import ALL
from tests.unit.netkit.diagnose.test_trace import FakeHost, OneHost, nic, rules

LANE, WIRE = IPv4Network("10.32.0.0/16"), IPv4Network("10.0.0.0/24")
PORTS = OverlayPorts(vni=7, bridge="wv-1", tap="wt-1", vxlan="wx-1")
NAMES = {1: "a", 2: "b"}
HOSTS = {n: IPv4Address(f"10.0.0.{n}") for n in NAMES}
INNER = {n: IPv4Address(f"10.32.0.{n}") for n in NAMES}
MACS = {n: f"02:42:0a:20:00:0{n}" for n in NAMES}
Hosts = dict[int, FakeHost]


def box(n: int) -> Space:
    own = IPv4Interface(f"{INNER[n]}/16")
    facts = Facts(
        interfaces={
            "lo": Interface(name="lo", addresses=(IPv4Interface("127.0.0.1/8"),)),
            "eth0": Interface(name="eth0", addresses=(own,)),
        },
        routes=(Route(dst=LANE, dev="eth0"),),
    )
    eth0 = Nic(name="eth0", kind="veth", mac=MACS[n], peer="v-1")
    return Space(
        key=NAMES[n], name=f"container {NAMES[n]}", facts=facts,
        nics={"eth0": eth0, "lo": Nic(name="lo")},
        sockets=(Socket(proto="tcp", address=IPv4Address(0), port=80),),
    )  # fmt: skip


def host(n: int) -> Space:
    other = 3 - n
    ends = {name: Interface(name=name, master="wv-1", isolated=True) for name in ("wt-1", "wx-1")}
    links = {
        "wv-1": Interface(name="wv-1", bridge=True, filtered=True),
        "eth9": Interface(name="eth9", addresses=(IPv4Interface(f"{HOSTS[n]}/24"),)),
        "v-1": Interface(name="v-1", master="wv-1"),
        **ends,
    }
    place = Place(
        network="lane", address=IPv4Interface(f"{INNER[n]}/16"), ifname="eth0", port="v-1",
        bridge="wv-1", mac=MACS[n],
    )  # fmt: skip
    inside = Container(
        name=NAMES[n], id=NAMES[n], places=(place,), routes=(Route(dst=LANE, dev="eth0"),)
    )
    facts = Facts(
        interfaces=links, routes=(Route(dst=WIRE, dev="eth9"),), containers={NAMES[n]: inside}
    )
    nics = {name: Nic(name=name, kind="veth") for name in links}
    nics["wv-1"] = Nic(name="wv-1", kind="bridge", mac=f"02:00:00:00:00:0{n}")
    nics |= {"wt-1": Nic(name="wt-1", kind="tap"), "wx-1": Nic(name="wx-1", kind="vxlan")}
    return Space(
        key=HOST, name="the host", facts=facts, nics=nics,
        neighbours={("wv-1", INNER[other]): MACS[other]},
        fdb={("wv-1", MACS[other]): "wx-1", ("wv-1", MACS[n]): "v-1"},
        tunnels={("wx-1", MACS[other]): (HOSTS[other],), ("wx-1", ALL): (HOSTS[other],)},
    )  # fmt: skip


def process(n: int, **of_other: object) -> Callable[[str, str], Located]:
    """What the overlay's process of host `n` knows: both containers."""
    other = 3 - n

    def located(mac: str, address: str) -> Located:
        here = Located(
            me=f"id{n}", peer=f"id{n}", name=f"h{n}", mac=MACS[n],
            addresses=frozenset({INNER[n]}),
        )  # fmt: skip
        there = Located(
            me=f"id{n}", peer=f"id{other}", name=f"h{other}", mac=MACS[other],
            addresses=frozenset({INNER[other]}), way="fastdp", host=str(HOSTS[other]), port=6783,
            reason="fastdp: probed 1422 bytes",
        )  # fmt: skip
        for found in (here, there):
            if mac == found.mac or (not mac and IPv4Address(address) in found.addresses):
                return replace(found, **of_other) if found is there else found
        return Located(me=f"id{n}", why="no host of the overlay has it on this network")

    return located


def hosts() -> Hosts:
    made = {}
    for n, name in NAMES.items():
        recorded = Endpoint(space=name, container=name, network="lane", address=INNER[n],
                            mac=MACS[n], ifname="eth0")  # fmt: skip
        made[n] = FakeHost(
            {HOST: host(n), name: box(n)}, (recorded,), process=process(n),
            networks=(OverlayNetwork(name="lane", ports=PORTS),),
        )  # fmt: skip
    return made


def asked(made: Hosts, target: str = "b", service: str = "tcp/80", size: int = 0) -> Trace:
    engines = {f"h{n}": OneHost(fake) for n, fake in made.items()}
    return trace(engines, question("a", target, service, size))


def by_process(made: Hosts, **more: object) -> None:
    """Frames between the two go by user space."""
    for n, fake in made.items():
        space = fake.spaces[HOST]
        other = MACS[3 - n]
        fake.spaces[HOST] = replace(space, fdb={**space.fdb, ("wv-1", other): "wt-1"}, tunnels={})
        said = {"way": "sleeve", "sealed": True,
                "reason": "sleeve: encrypted, which the kernel's VXLAN is not", **more}  # fmt: skip
        fake.process = process(n, **said)


def why(t: Trace) -> list[str]:
    return [s.why for s in (*t.request, *t.answer) if s.what == "overlay"]


def test_a_packet_goes_by_the_kernel_there_and_back() -> None:
    found = asked(hosts())
    assert (found.verdict, found.words) == ("DELIVERED", "delivered to container b on h2")
    assert why(found) == [
        "fastdp to h2 (10.0.0.2): VXLAN number 7, udp/6784; probed 1422 bytes",
        "fastdp from 10.0.0.1 by eth9: VXLAN number 7, network lane",
        "fastdp to h1 (10.0.0.1): VXLAN number 7, udp/6784; probed 1422 bytes",
        "fastdp from 10.0.0.2 by eth9: VXLAN number 7, network lane",
    ]
    assert asked(hosts(), service="tcp/81").code == "not-listening"
    alone = {1: hosts()[1]}
    found = asked(alone, str(INNER[2]))
    assert found.code == "beyond"
    assert "by fastdp tunnel to h2 (10.0.0.2), where no engine" in found.words


class Knowing(OneHost):
    """An engine that has been told of containers of other hosts."""

    def locate(self, name: str) -> Known | None:
        here = super().locate(name)
        there = (Attached("lane", str(INNER[2]), shared=True),)
        return here or Known(name=name, space="", remote=True, on="h2", addresses=there)


def test_a_container_of_another_host_is_known_by_name_also_where_its_engine_is_not_asked() -> None:
    made = hosts()
    alone = {"h1": Knowing(made[1])}
    assert trace(alone, question("a", "b", "tcp/80")).code == "beyond"
    assert trace(alone, question("a", "b:lane", "tcp/80")).code == "beyond"
    with pytest.raises(NotFound, match=r"b is on h2 \(.*\): name the engine there, --via h2=URL"):
        trace(alone, question("b", "a", "tcp/80"))
    both = {"h1": Knowing(made[1]), "h2": Knowing(made[2])}
    assert trace(both, question("a", "b", "tcp/80")).words == "delivered to container b on h2"


def test_a_packet_goes_by_user_space_or_by_a_third_host_and_it_says_why() -> None:
    made = hosts()
    by_process(made)
    found = asked(made)
    assert found.code == "delivered"
    assert why(found)[:2] == [
        "sleeve to h2 (10.0.0.2), udp/6783, sealed; encrypted, which the kernel's VXLAN is not",
        "sleeve from h1: network lane, by wt-1",
    ]
    by_process(made, way="relay", hop="h3", host="", port=0,
               reason="relay by h3: no direct session")  # fmt: skip
    found = asked(made)
    assert found.code == "delivered"
    assert why(found)[0] == "relay to h2, by way of h3, sealed; no direct session"


def process_gone(made: Hosts) -> None:
    made[1].process = None


def process_hangs(made: Hosts) -> None:
    def hangs(mac: str, address: str) -> Located:
        raise KernelError("the weave overlay does not answer")

    made[1].process = hangs


def without_process_there(made: Hosts) -> None:
    by_process(made)
    made[2].process = None


def tap_is_closed(made: Hosts) -> None:
    by_process(made)
    made[2].spaces[HOST] = nic(made[2].spaces[HOST], "wt-1", carrier=False)


def no_way(made: Hosts) -> None:
    by_process(made, way="none", reason="there is no session with it", host="")


def not_admitted(made: Hosts) -> None:
    made[2].admission = "dropped"


def check_changed(made: Hosts) -> None:
    made[2].admission = "unknown"


def foreign_source(made: Hosts) -> None:
    by_process(made)
    said = made[2].process
    assert said is not None
    made[2].process = lambda mac, address: replace(said(mac, address), peer="id9", name="h9")


def firewall_out(made: Hosts) -> None:
    space = made[1].spaces[HOST]
    filters = rules("-A OUTPUT -p udp -m udp --dport 6784 -j DROP")
    made[1].spaces[HOST] = replace(space, facts=replace(space.facts, rules=filters))


def firewall_in(made: Hosts) -> None:
    by_process(made)
    space = made[2].spaces[HOST]
    filters = rules("-A INPUT -p udp -m udp --dport 6783 -j DROP")
    made[2].spaces[HOST] = replace(space, facts=replace(space.facts, rules=filters))


def vxlan_down(made: Hosts) -> None:
    made[2].spaces[HOST] = nic(made[2].spaces[HOST], "wx-1", up=False)


def stale_neighbour(made: Hosts) -> None:
    made[1].spaces["a"] = replace(
        made[1].spaces["a"], neighbours={("eth0", INNER[2]): "02:42:0a:20:00:63"}
    )


def entry_deleted(made: Hosts) -> None:
    space = made[1].spaces[HOST]
    made[1].spaces[HOST] = replace(space, fdb={("wv-1", MACS[1]): "v-1"})


def no_way_yet(made: Hosts) -> None:
    no_way(made)
    entry_deleted(made)


def other_network(made: Hosts) -> None:
    ports = replace(PORTS, vni=8)
    made[2].networks = (OverlayNetwork(name="other", ports=ports),)


def back_elsewhere(made: Hosts) -> None:
    space = made[2].spaces[HOST]
    other = {**space.facts.interfaces, "eth8": Interface(name="eth8")}
    routes = (Route(dst=WIRE, dev="eth8"), Route(dst=IPv4Network("10.0.0.2"), dev="eth9"))
    facts = replace(space.facts, interfaces=other, routes=routes)
    nics = {**space.nics, "eth8": Nic(name="eth8")}
    made[2].spaces[HOST] = replace(space, facts=facts, nics=nics)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (process_gone, "tunnel-unwatched", "the overlay's process does not run on this host"),
        (process_hangs, "tunnel-unwatched", "the overlay's process does not run on this host"),
        (without_process_there, "overlay-off", "where the weave overlay does not run"),
        (tap_is_closed, "overlay-off", "which no process of the weave overlay reads"),
        (no_way, "tunnel-down", "there is no way to h2, where 10.32.0.2 is: there is no session"),
        (no_way_yet, "tunnel-down", "there is no way to h2, where 10.32.0.2 is"),
        (not_admitted, "source-guard", "ip netkit-weave drops what comes from 10.0.0.1"),
        (check_changed, "rule-unknown", "was changed by another tool"),
        (foreign_source, "source-guard", "does not take 02:42:0a:20:00:01 with 10.32.0.1"),
        (firewall_out, "fw-drop", "the outer packet, udp/6784 to 10.0.0.2: dropped in the host by"),
        (firewall_in, "fw-drop", "the outer packet, udp/6783 to 10.0.0.2: dropped in the host by"),
        (vxlan_down, "link-down", "wx-1 of the host is down: nothing checks who sends"),
        (stale_neighbour, "wrong-mac", "it is sent to 10.32.0.2 at 02:42:0a:20:00:63"),
        (entry_deleted, "fdb-elsewhere", "wv-1 has no entry for 02:42:0a:20:00:02 of h2"),
        (other_network, "tunnel-down", "has no network that takes VXLAN number 7"),
        (back_elsewhere, "rp-filter", "the way back to 10.0.0.1 is by eth8"),
    ],
)
def test_where_it_ends_it_says_why(
    fault: Callable[[Hosts], None], code: str, words: str
) -> None:
    made = hosts()
    fault(made)
    found = asked(made)
    assert (found.code, words in found.words) == (code, True), found.words


def test_an_address_that_nobody_has_is_told_from_one_that_cannot_be_known() -> None:
    made = hosts()
    found = asked(made, "10.32.0.9")
    assert found.code == "no-neighbour"
    assert "10.32.0.9 on network lane: no host of the overlay has it" in found.words
    made[1].process = None
    found = asked(made, "10.32.0.9")
    assert (found.code, found.fix) == ("overlay-off", "netkit weave launch")


def test_a_packet_that_must_not_be_cut_ends_where_it_does_not_fit() -> None:
    made = hosts()
    assert asked(made, service="icmp", size=1450).code == "delivered"
    found = asked(made, size=1451)
    assert (found.code, found.verdict) == ("too-big", "UNROUTED")
    assert "a packet of 1451 bytes, in a packet of 1501, does not fit eth9" in found.words
    by_process(made)
    assert asked(made, size=1500).code == "delivered"
    made[2].spaces["b"] = nic(made[2].spaces["b"], "eth0", mtu=1400)
    assert asked(made, size=1450).code == "delivered"  # the answer is not as long
    found = asked(made, service="icmp", size=1450)
    assert (found.code, found.leg) == ("too-big", "answer")
    assert "eth0 of container b, whose MTU is 1400: at most 1400 do" in found.words
    with pytest.raises(InvalidSpec):
        asked(made, size=70000)
