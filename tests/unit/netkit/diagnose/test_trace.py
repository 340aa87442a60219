"""netkit.diagnose.trace on hosts written down here: no root, no kernel, no switch."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import msgspec
import pytest

from netkit.diagnose.choosing import Attached
from netkit.diagnose.choosing import Place as Known
from netkit.diagnose.explain.facts import Container, Facts, Interface, Place, Published, best
from netkit.diagnose.explain.facts import Path as Route
from netkit.diagnose.explain.guards import guards
from netkit.diagnose.explain.journey import End, Party
from netkit.diagnose.explain.question import begin
from netkit.diagnose.explain.question import question as explained
from netkit.diagnose.explain.ruleset import RuleSet
from netkit.diagnose.explain.saved import iptables
from netkit.diagnose.trace import advice, ofproto
from netkit.diagnose.trace.codes import CODES, OF_JOURNEY, OF_PURPOSE
from netkit.diagnose.trace.facts import (
    HOST,
    Admission,
    Endpoint,
    Header,
    Located,
    Nic,
    Output,
    OverlayNetwork,
    Pipeline,
    Registers,
    Socket,
    Space,
    SwitchPort,
    Wall,
    Way,
)
from netkit.diagnose.trace.join import Question, Trace, question, trace
from netkit.diagnose.trace.leg import Ask, Left, Leg, Line, Step, Tunnel
from netkit.diagnose.trace.stops import ended, plugged
from netkit.diagnose.trace.switching import doubts_of
from netkit.diagnose.trace.undecided import leg
from netkit.diagnose.trace.words import text
from netkit.errors import InvalidSpec, KernelError, NotFound
from netkit.kernel.netlink import sock_diag
from netkit.model.ovn import LogicalPath
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from plugins.port_security import PORT_SECURITY
from tests.places import ROOT

ANYWHERE, LAN = IPv4Network("0.0.0.0/0"), IPv4Network("172.17.0.0/16")
GATEWAY = IPv4Address("172.17.0.1")
ADDRESSES = {"web": "172.17.0.2", "client": "172.17.0.3"}
MACS = {"web": "02:00:00:00:00:02", "client": "02:00:00:00:00:03", "host": "02:00:00:00:00:01"}


def rules(*lines: str) -> RuleSet:
    chains = ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]"
    saved = "\n".join(("*filter", chains, *lines, "COMMIT", ""))
    return RuleSet.of(iptables("iptables-nft", saved))


def box(name: str, **more: object) -> Space:
    """A container on br0."""
    own = IPv4Interface(f"{ADDRESSES[name]}/16")
    facts = Facts(
        interfaces={
            "lo": Interface(name="lo", addresses=(IPv4Interface("127.0.0.1/8"),)),
            "eth0": Interface(name="eth0", addresses=(own,)),
        },
        routes=(Route(dst=LAN, dev="eth0"), Route(dst=ANYWHERE, dev="eth0", gateway=GATEWAY)),
    )
    nic = Nic(name="eth0", kind="veth", mac=MACS[name], peer=f"v-{name}")
    space = Space(
        key=name,
        name=f"container {name}",
        facts=facts,
        nics={"eth0": nic, "lo": Nic(name="lo")},
        sockets=(Socket(proto="tcp", address=IPv4Address(0), port=80),),
    )
    return replace(space, **more)


def host(filters: RuleSet | None = None, **more: object) -> Space:
    places = {
        name: Container(
            name=name,
            id=name,
            places=(
                Place(
                    network="bridge",
                    address=IPv4Interface(f"{address}/16"),
                    ifname="eth0",
                    port=f"v-{name}",
                    bridge="br0",
                ),
            ),
            routes=box(name).facts.routes,
        )
        for name, address in ADDRESSES.items()
    }
    links = {
        "br0": Interface(
            name="br0", bridge=True, addresses=(IPv4Interface("172.17.0.1/16"),), filtered=True,
            forwarding=True,
        ),
        "eth9": Interface(
            name="eth9", addresses=(IPv4Interface("10.0.0.1/24"),), forwarding=True
        ),
        **{f"v-{n}": Interface(name=f"v-{n}", master="br0") for n in ADDRESSES},
    }  # fmt: skip
    facts = Facts(
        interfaces=links,
        routes=(Route(dst=LAN, dev="br0"), Route(dst=IPv4Network("10.0.0.0/24"), dev="eth9")),
        rules=filters or RuleSet(),
        layouts=(Iptables.layout, Nftables.layout),
        containers=places,
    )
    nics = {n: Nic(name=n, kind="veth", mac=MACS["host"]) for n in links}
    nics["br0"] = Nic(name="br0", kind="bridge", mac=MACS["host"])
    return replace(Space(key=HOST, name="the host", facts=facts, nics=nics), **more)


@dataclass
class FakeHost:
    """A host described by values; its kernel routes by its tables, unless `ways` overrides them."""

    spaces: dict[str, Space]
    recorded: tuple[Endpoint, ...] = ()
    ports: tuple[SwitchPort, ...] = ()
    pipelines: Mapping[tuple[str, int, str], Pipeline] = field(default_factory=dict)
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    walled: Wall = field(default_factory=lambda: Wall(driver="iptables-nft"))
    networks: tuple[OverlayNetwork, ...] = ()
    process: Callable[[str, str], Located] | None = None
    admission: Admission = "admitted"
    names: LogicalPath | None = None  # None: the southbound database does not answer

    def firewall(self) -> Wall:
        return self.walled

    def overlays(self) -> Sequence[OverlayNetwork]:
        return self.networks

    def located(self, vni: int, *, mac: str = "", address: IPv4Address | None = None) -> Located:
        if self.process is None:
            raise NotFound("it does not run")
        return self.process(mac, str(address))

    def admits(self, host: IPv4Address, vni: int, mac: str, address: IPv4Address) -> Admission:
        return self.admission

    def space(self, key: str) -> Space:
        return self.spaces[key]

    def route(self, key: str, dst: IPv4Address, src: IPv4Address | None = None) -> Way:
        if (key, str(dst)) in self.ways:
            return self.ways[key, str(dst)]
        facts = self.spaces[key].facts
        if facts.is_local(dst):
            return Way(dev="lo", source=dst, local=True)
        path = best(facts.routes, dst)
        if path is None:
            return Way(why="no route")
        return Way(
            dev=path.dev,
            gateway=path.gateway,
            source=facts.source(path, dst),
            prefix=str(path.dst),
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        return self.recorded

    def switch_ports(self) -> tuple[SwitchPort, ...]:
        return self.ports

    def pipeline(self, bridge: str, port: int, header: Header) -> Pipeline:
        try:
            return self.pipelines[bridge, port, header.proto]
        except KeyError:
            raise KernelError("ovs-vswitchd is not running") from None

    def logical(self, registers: Registers) -> LogicalPath:
        if self.names is None:
            raise KernelError("OVN_Southbound does not answer at unix:x")
        return self.names


def town(**spaces: Space) -> FakeHost:
    recorded = tuple(
        Endpoint(space=n, container=n, network="bridge", address=IPv4Address(a), ifname="eth0")
        for n, a in ADDRESSES.items()
    )
    return FakeHost({HOST: host(), "web": box("web"), "client": box("client"), **spaces}, recorded)


class OneHost:
    """Implements join.Asked on a FakeHost."""

    def __init__(self, fake: FakeHost, *stopped: str) -> None:
        self.fake, self.stopped, self.asked = fake, stopped, list[Ask]()

    def leg(self, ask: Ask) -> Leg:
        self.asked.append(ask)
        # as it goes over the wire
        there = msgspec.json.decode(msgspec.json.encode(ask), type=Ask)
        return msgspec.json.decode(msgspec.json.encode(leg(there, self.fake)), type=Leg)

    def locate(self, name: str) -> Known | None:
        if name in self.stopped:
            return Known(name=name, space="", running=False)
        for e in self.fake.recorded:
            if name in {e.container, str(e.address)}:
                own = [o for o in self.fake.recorded if o.space == e.space]
                attached = tuple(Attached(o.network, str(o.address)) for o in own)
                return Known(name=e.container, space=e.space, addresses=attached)
        if name in {"172.17.0.1", "10.0.0.1"}:
            return Known(name=HOST, space=HOST)
        return None


def traced(
    fake: FakeHost, service: str = "tcp/80", source: str = "client", target: str = "web"
) -> Trace:
    return trace({"here": OneHost(fake)}, question(source, target, service))


def nic(space: Space, name: str, **more: object) -> Space:
    return replace(space, nics={**space.nics, name: replace(space.nics[name], **more)})


# -- what people write -----------------------------------------------------------------------


@pytest.mark.parametrize("service", ["tcp/80", "80/tcp", "80", "TCP/80"])
def test_a_service_is_written_as_people_know_it(service: str) -> None:
    assert question("a", "b", service) == Question(source="a", target="b", proto="tcp", port=80)
    asked = explained("a", "b", service)
    assert (asked.proto, asked.port) == ("tcp", 80)


@pytest.mark.parametrize("ask", [question, explained])
@pytest.mark.parametrize(
    ("source", "target", "service", "words"),
    [
        ("a", "b:80", "81", "two ports"),
        ("a:80", "b", "80", "a source has no port"),
        ("lan:web", "b", "80", "no IPv4 address"),
        ("10.0.0.9@", "b", "80", "no interface after the @"),
        ("web@eth0", "b", "80", "no IPv4 address"),
        ("fe80::1", "b", "80", "only IPv4"),
        ("a", "b:70000", "tcp", "70000 is no port"),
        ("a", "b:", "80", "neither CONTAINER"),
        ("", "b", "80", "neither CONTAINER"),
        ("a", "b", "icmp/8", "icmp has no ports"),
        ("a", "b", "80/tcp/x", "write 80, 80/tcp, tcp/80"),
        ("10.0.0.9@eth9:80", "b", "80", "a source has no port"),
        ("a", "10.0.0.9:80@eth9:80", "80", "names two ports"),
        ("a", "10.0.0.9@eth9:70000", "80", "70000 is no port"),
        ("a", "10.0.0.9@:80", "80", "no interface after the @"),
    ],
)
def test_words_without_sense_are_refused_alike_by_both(
    ask: Callable[[str, str, str], object], source: str, target: str, service: str, words: str
) -> None:
    with pytest.raises(InvalidSpec, match=re.escape(words)):
        ask(source, target, service)


def test_a_network_an_interface_and_the_world_are_written_alike_for_both() -> None:
    fake = town()
    other = Endpoint(space="web", container="web", network="two", address=IPv4Address("172.18.0.2"))
    fake.recorded = (*fake.recorded, other)
    for target, packet in (
        ("web:bridge", "172.17.0.3 -> 172.17.0.2 tcp/80"),
        ("172.17.0.2", "172.17.0.3 -> 172.17.0.2 tcp/80"),
        ("web:bridge:80", "172.17.0.3 -> 172.17.0.2 tcp/80"),
        ("web:two", "172.17.0.3 -> 172.18.0.2 tcp/80"),
    ):
        assert traced(fake, "80", "client", target).packet == packet
        assert traced(fake, "80", "client:bridge", target).packet == packet
    for source in ("10.0.0.9", "10.0.0.9@eth9", "lan:10.0.0.9", "lan:10.0.0.9@eth9"):
        assert traced(fake, "80", source, "web:bridge").packet == "10.0.0.9 -> 172.17.0.2 tcp/80"
    assert traced(fake, "80", "lan:172.17.0.3@eth9", "web").request[0].where == "outside"
    assert traced(fake, "80", "world", "web:bridge").packet == "192.0.2.1 -> 172.17.0.2 tcp/80"
    with pytest.raises(NotFound, match="web is not on network nowhere"):
        traced(fake, "80", "client", "web:nowhere")


@pytest.mark.parametrize(
    ("target", "bare", "port"),
    [
        ("web:80", "web", 80),
        ("web:two:80", "web:two", 80),
        ("web:two", "web:two", 0),
        ("host:80", "host", 80),
        ("lan:10.0.0.9:80", "lan:10.0.0.9", 80),
        ("10.0.0.9@eth9:80", "10.0.0.9@eth9", 80),
        ("lan:10.0.0.9@eth9:80", "lan:10.0.0.9@eth9", 80),
        ("lan:10.0.0.9:80@eth9", "lan:10.0.0.9@eth9", 80),
        ("lan:10.0.0.9@eth9", "lan:10.0.0.9@eth9", 0),
    ],
)
def test_every_target_may_have_a_port_for_both(target: str, bare: str, port: int) -> None:
    service = "tcp" if port else "tcp/99"
    for asked in (question("a", target, service), explained("a", target, service)):
        assert (asked.target, asked.port) == (bare, port or 99)


def test_a_port_of_a_bridge_is_where_packets_from_outside_come_by_for_both() -> None:
    fake = town()
    space = fake.spaces[HOST]
    wired = {"p9": Interface(name="p9", master="br0")}
    facts = replace(space.facts, interfaces={**space.facts.interfaces, **wired})
    nics = {**space.nics, "p9": Nic(name="p9")}
    fake.spaces[HOST] = replace(space, facts=facts, nics=nics)
    found = traced(fake, "80", "lan:172.17.0.9@p9", "web:bridge")
    assert found.packet == "172.17.0.9 -> 172.17.0.2 tcp/80"
    assert "comes by port p9 of br0" in found.request[0].why
    party, _ = begin(explained("lan:172.17.0.9@p9", "web", "80"), facts)
    assert (party.iface, party.port) == ("br0", "p9")
    fake.spaces[HOST] = replace(fake.spaces[HOST], nics={**nics, "p9": Nic(name="p9", up=False)})
    assert traced(fake, "80", "lan:172.17.0.9@p9", "web:bridge").code == "link-down"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("172.17.0.9@v-web", "v-web is the wire of container web"),
        ("172.17.0.9@nic7", "the host has no interface nic7"),
        ("172.17.0.9@lo", "the host has no interface lo"),
    ],
)
def test_where_no_packet_from_outside_comes_by_is_refused_alike_by_both(
    source: str, words: str
) -> None:
    fake = town()
    with pytest.raises(InvalidSpec, match=words):
        traced(fake, "80", source, "web")
    with pytest.raises(InvalidSpec, match=words):
        begin(explained(source, "web", "80"), fake.spaces[HOST].facts)


def test_a_fix_is_about_the_port_that_the_packet_takes() -> None:
    """A container on two networks: neither the port nor the icc of the first network counts."""
    fake = town()
    space = fake.spaces[HOST]
    web = space.facts.containers["web"]
    first = replace(web.places[0], network="apart", ifname="eth1", port="v-other")
    moved = replace(web, places=(first, *web.places))
    facts = replace(space.facts, containers={**space.facts.containers, "web": moved})
    there = replace(space, facts=facts)
    party, client = Party(kind="container", name="web"), IPv4Address(ADDRESSES["client"])
    here = plugged(there, party, client)
    assert here is not None
    assert here.port == "v-web"
    own = Endpoint(space="web", container="web", network="apart", address=GATEWAY, icc=False)
    fake.recorded = (*fake.recorded, own)
    stop = ended(there, party, End(reason="isolated", words="x"), fake, client)
    assert (stop.code, "dev v-web " in stop.fix) == ("port-isolated", True)


def test_a_service_and_a_target_are_written_in_two_ways() -> None:
    assert question("a", "b", "tcp/80") == Question(source="a", target="b", proto="tcp", port=80)
    assert question("a", "10.0.0.1:8080", "udp").port == 8080
    assert question("a", "b", "icmp").port == 0
    assert question("a", "b").proto == "icmp"
    with pytest.raises(InvalidSpec, match="to which port"):
        explained("a", "b", "")


@pytest.mark.parametrize(
    ("target", "service"),
    [
        ("b", "tcp"),
        ("b", "tcp/0"),
        ("b", "tcp/65536"),
        ("b", "sctp/1"),
        ("b:1", "tcp/2"),
    ],
)
def test_a_service_without_sense_is_refused_in_one_line(target: str, service: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        question("a", target, service)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="unknown"):
        traced(town(), source="unknown")


# -- one host ----------------------------------------------------------------------------------


def test_a_packet_between_neighbours_is_followed_there_and_back() -> None:
    found = traced(town())
    assert (found.verdict, found.code) == ("DELIVERED", "delivered")
    assert found.packet == "172.17.0.3 -> 172.17.0.2 tcp/80"
    assert [s.what for s in found.request] == ["route", "link", "bridge", "socket"]
    assert [s.where for s in found.answer] == ["container web", "container web", "the host"]
    assert text(found).splitlines()[-1] == "DELIVERED (delivered): delivered to container web"


def test_a_port_without_a_process_is_a_refusal() -> None:
    found = traced(town(), "tcp/81")
    assert (found.verdict, found.code) == ("REFUSED", "not-listening")
    assert "81/tcp" in found.words
    assert found.fix


def test_a_socket_of_the_loopback_or_of_another_interface_does_not_count() -> None:
    for own in (
        Socket(proto="tcp", address=IPv4Address("127.0.0.1"), port=80),
        Socket(proto="tcp", address=IPv4Address(0), port=80, nic="eth1"),
        Socket(proto="udp", address=IPv4Address(0), port=80),
    ):
        assert traced(town(web=box("web", sockets=(own,)))).code == "not-listening"


FAULTS = {
    "link-down": town(web=nic(box("web"), "eth0", up=False)),
    "link-down no carrier": town(client=nic(box("client"), "eth0", carrier=False)),
    "link-down bridge": town(host=nic(host(), "br0", up=False)),
    "port-blocking": town(host=nic(host(), "v-web", forwards=False)),
    "hooked": town(web=nic(box("web"), "eth0", hooked="XDP")),
    "fdb-elsewhere": town(host=host(fdb={("br0", MACS["web"]): "v-client"})),
    "wrong-mac": town(
        client=box("client", neighbours={("eth0", IPv4Address("172.17.0.2")): "02:00:00:00:00:99"})
    ),
    "fw-drop": town(host=host(rules("-A FORWARD -p tcp -m tcp --dport 80 -j DROP"))),
    "fw-drop by policy": town(
        host=host(RuleSet.of(iptables("iptables-nft", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")))
    ),
    "fw-drop of the answer": town(host=host(rules("-A FORWARD -p tcp -m tcp --sport 80 -j DROP"))),
    "fw-drop inside": town(
        web=box(
            "web",
            facts=replace(
                box("web").facts, rules=rules("-A INPUT -p tcp -m tcp --dport 80 -j DROP")
            ),
        )
    ),
    "fw-reject": town(host=host(rules("-A FORWARD -p tcp -m tcp --dport 80 -j REJECT"))),
    "rule-unknown": town(host=host(rules("-A FORWARD -m geoip --source-country XX -j DROP"))),
    "frame-rules": town(host=host(facts=replace(host().facts, layer2="bridge t c"))),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_by_its_code(name: str) -> None:
    found = traced(FAULTS[name])
    assert found.code == name.split(maxsplit=1)[0], found
    assert found.verdict == CODES[found.code][0]
    assert ("answer" in name) == (found.leg == "answer")


def test_the_rule_that_decides_is_named_with_a_command_that_removes_it() -> None:
    found = traced(FAULTS["fw-drop"])
    assert "rule 1 of filter FORWARD (iptables-nft)" in found.words
    assert found.fix == "iptables-nft -t filter -D FORWARD 1"


def test_what_cannot_be_evaluated_and_makes_no_difference_is_passed_over() -> None:
    filters = rules("-A FORWARD -m geoip --source-country XX -j ACCEPT")
    assert traced(town(host=host(filters))).code == "delivered"


def test_isolated_ports_are_distinguished_from_a_network_without_icc() -> None:
    links = {n: replace(i, isolated=bool(i.master)) for n, i in host().facts.interfaces.items()}
    fake = town(host=host(facts=replace(host().facts, interfaces=links)))
    assert traced(fake).code == "port-isolated"
    fake.recorded = tuple(replace(e, icc=False) for e in fake.recorded)
    assert traced(fake).code == "icc-off"


def test_what_comes_to_the_socket_that_only_holds_a_published_port_is_lost() -> None:
    port = Published(
        container="web",
        proto="tcp",
        container_port=80,
        host_ip="10.0.0.1",
        host_port=8080,
        address=IPv4Address(ADDRESSES["web"]),
    )
    own = Socket(proto="tcp", address=IPv4Address("10.0.0.1"), port=8080)
    fake = town(host=host(facts=replace(host().facts, ports=(port,)), sockets=(own,)))
    found = traced(fake, target="10.0.0.1:8080", service="tcp")
    assert (found.verdict, found.code, found.fix) == ("LOST", "not-translated", "")
    assert "fw check finds no drift" in found.words
    fake.walled = Wall(driver="iptables-nft", drift=2)
    assert traced(fake, target="10.0.0.1:8080", service="tcp").fix == "netkit fw repair"
    fake.walled = Wall(driver="none")
    found = traced(fake, target="10.0.0.1:8080", service="tcp")
    assert "--iptables=false" in found.words
    assert found.fix == (
        "iptables -t nat -A PREROUTING -d 10.0.0.1 -p tcp --dport 8080"
        " -j DNAT --to-destination 172.17.0.2:80"
    )
    assert traced(fake, target="172.17.0.1:8080", service="tcp").code == "not-listening"


def test_without_a_route_the_kernel_is_quoted() -> None:
    fake = town()
    fake.ways["client", "192.0.2.9"] = Way(why="a prohibit route")
    found = traced(fake, "icmp", target="192.0.2.9")
    assert (found.verdict, found.code) == ("UNROUTED", "no-route")
    assert "a prohibit route" in found.words


def test_a_kernel_that_routes_otherwise_than_its_main_table_is_not_guessed_at() -> None:
    fake = town()
    fake.ways[HOST, "10.0.0.9"] = Way(dev="br0", source=GATEWAY)
    assert traced(fake, "icmp", HOST, "10.0.0.9").code == "policy-routing"


def test_an_address_that_no_host_on_the_bridge_has() -> None:
    assert traced(town(), target="172.17.0.99").code == "no-neighbour"


def test_a_target_that_ignores_echo_requests() -> None:
    assert traced(town(web=box("web", ignores_echo=True)), "icmp").code == "echo-ignored"
    assert traced(town(web=box("web", ignores_echo=True))).code == "delivered"


def test_who_comes_from_outside_is_believed_to_come_and_the_answer_to_go_on() -> None:
    found = traced(town(), source="10.0.0.9")
    assert found.code == "delivered"
    assert found.notes == ("what is between 10.0.0.9 and here is not seen",)
    assert traced(town(), source="192.0.2.9@eth9").code == "no-route"  # the answer has no way
    with pytest.raises(InvalidSpec, match="eth7"):
        traced(town(), source="10.0.0.9@eth7")
    with pytest.raises(InvalidSpec, match="@INTERFACE"):
        traced(town(), source="192.0.2.9")


def test_what_leaves_and_cannot_be_followed_is_undetermined() -> None:
    found = traced(town(), target="10.0.0.9")
    assert (found.verdict, found.code) == ("UNDETERMINED", "beyond")
    assert "eth9" in found.words
    assert "--via" in found.fix


def test_who_does_not_run_is_not_traced() -> None:
    found = trace({"here": OneHost(town(), "web")}, question("client", "web", "tcp/80"))
    assert (found.code, found.fix) == ("container-not-running", "netkit start web")
    assert found.request == ()


# -- Open vSwitch --------------------------------------------------------------------------------


TUNNEL = SwitchPort(
    name="g1",
    bridge="obr0",
    number=7,
    kind="gre",
    remote=IPv4Address("10.0.0.2"),
    key=5,
    state="up",
)


def switched(*outputs: Output, tunnel: SwitchPort = TUNNEL, **more: object) -> FakeHost:
    """client is a port of obr0; web is behind a tunnel."""
    fake = town()
    facts = replace(host().facts, containers={})
    fake.spaces[HOST] = host(facts=facts)
    fake.recorded = tuple(e for e in fake.recorded if e.container == "client")
    fake.ports = (SwitchPort(name="v-client", bridge="obr0", number=3), tunnel)
    found = Pipeline(outputs=outputs, rules=("obr0 table 0: priority 1",), **more)
    fake.pipelines = {("obr0", 3, proto): found for proto in ("tcp", "arp")}
    near = {("eth0", IPv4Address("172.17.0.2")): MACS["web"]}
    fake.spaces["client"] = box("client", neighbours=near)
    return fake


THROUGH = Output(remote=IPv4Address("10.0.0.2"), key=5)


def test_a_tunnel_leads_to_a_host_that_is_to_be_asked() -> None:
    found = traced(switched(THROUGH), target="172.17.0.2")
    assert found.code == "beyond"
    assert "gre tunnel to 10.0.0.2" in found.words


@pytest.mark.parametrize(
    ("fake", "code"),
    [
        (switched(), "ovs-drop"),
        (switched(THROUGH, unknown=("ct(zone=1)",)), "ovs-unknown"),
        (switched(Output(port="eth5")), "beyond"),
        (switched(Output(port="v-client")), "wrong-mac"),
        (switched(Output(remote=IPv4Address("10.0.0.3"), key=5)), "ovs-unknown"),
        (switched(THROUGH, tunnel=replace(TUNNEL, state="down")), "tunnel-down"),
    ],
)
def test_what_a_switch_does_is_reported_by_its_code(fake: FakeHost, code: str) -> None:
    assert traced(fake, target="172.17.0.2").code == code


def test_a_flow_of_an_access_rule_is_distinguished_from_other_drops() -> None:
    fake = switched()
    by = "obr0 table 1: tcp,nw_dst=172.17.0.2,tp_dst=80, priority 60000, cookie 0x4e61d7c1a4e6bc1e"
    dropped = Pipeline(outputs=(), rules=("obr0 table 0: priority 300, cookie 0x4e00", by))
    fake.pipelines = {("obr0", 3, "tcp"): dropped}
    assert traced(fake, target="172.17.0.2").code == "access-rule"


def test_a_switch_that_does_not_answer_is_not_guessed_at() -> None:
    fake = switched(THROUGH)
    fake.pipelines = {}
    assert traced(fake, target="172.17.0.2").code == "ovs-unknown"


def test_a_tunnel_that_may_come_up_any_moment_is_not_called_dead() -> None:
    """What is known for sure is still found beyond it; and it is LOST once it had its time."""
    for state in ("down", "init"):
        begun = replace(TUNNEL, state=state, beginning=True)
        found = traced(switched(THROUGH, tunnel=begun), target="172.17.0.2")
        assert (found.code, found.verdict) == ("beyond", "UNDETERMINED")
        (doubt,) = doubts_of(begun)
        assert doubt.code == "tunnel-beginning"
        assert "gre g1 with 10.0.0.2 was made or changed seconds ago" in doubt.words
    assert doubts_of(replace(TUNNEL, state="up")) == []
    (unwatched,) = doubts_of(replace(TUNNEL, state=""))
    assert unwatched.code == "tunnel-unwatched"


@dataclass
class Scripted:
    """An engine that answers with these legs, one after the other."""

    legs: list[Leg]
    asked: list[Ask] = field(default_factory=list)
    known: Known | None = None

    def leg(self, ask: Ask) -> Leg:
        self.asked.append(ask)
        return self.legs.pop(0)

    def locate(self, name: str) -> Known | None:
        return self.known if self.known and self.known.name == name else None


THERE = Line(src="172.17.0.3", dst="172.17.0.2", sport=(40000, 40000), dport=(80, 80))
BACK = Line(src="172.17.0.2", dst="172.17.0.3", sport=(80, 80), dport=(40000, 40000))
LEFT = Left(
    dev="obr0", near="172.17.0.2",
    tunnels=(Tunnel(kind="gre", remote="10.0.0.2", local="10.0.0.1", key=5),),
)  # fmt: skip
STEP = (Step(where="w", what="x", why="y"),)


def two(answer: Leg, doubts: tuple[tuple[str, str], ...] = ()) -> dict[str, Scripted]:
    departed = Leg(
        end="left", origin="c", sent=THERE, ends=THERE, left=LEFT, steps=STEP, doubts=doubts
    )
    arrived = Leg(end="arrived", space="w", name="container web", ends=THERE, steps=STEP)
    back = Leg(end="left", space="w", ends=BACK, left=LEFT, steps=STEP)
    addresses = (Attached("o", "192.0.2.1"), Attached("n", "172.17.0.2", 16, True))
    own = (Attached("n", "172.17.0.3", 16, True),)
    client = Known(name="client", space="c", addresses=own)
    web = Known(name="web", space="w", addresses=addresses)
    return {
        "h1": Scripted([departed, answer], known=client),
        "h2": Scripted([arrived, back], known=web),
    }


@pytest.mark.parametrize(
    ("near", "mac", "end"),
    [
        ("10.0.0.1", "", "left"),  # ours: it goes back by where it came from
        ("10.0.0.1", "02:00:00:00:00:99", "elsewhere"),  # the address, but another container's MAC
        ("10.0.0.7", "", "elsewhere"),
        ("172.17.0.1", "", "elsewhere"),  # of a bridge that no packet from outside enters
        ("172.17.0.2", "", "elsewhere"),
    ],
)
def test_what_leaves_one_host_comes_to_the_one_that_has_the_next_hop(
    near: str, mac: str, end: str
) -> None:
    came = Left(dev="eth0", near=near, mac_dst=mac)
    ends = Line(src="10.0.0.9", dst="10.0.0.8", sport=(40000, 40000), dport=(80, 80))
    ask = Ask(proto="tcp", port=80, came=came, ends=ends)
    assert OneHost(town()).leg(ask).end == end


def test_legs_of_two_hosts_are_put_together_there_and_back() -> None:
    hosts = two(Leg(end="arrived", space="c", name="container client", ends=BACK, steps=STEP))
    found = trace(hosts, question("client", "web", "tcp/80"))
    assert found.code == "delivered"
    assert "on h2" in found.words
    assert [s.host for s in (*found.request, *found.answer)] == ["h1", "h2", "h2", "h1"]
    first, second = hosts["h1"].asked
    assert first.address == "172.17.0.2"  # on the network whose name they share
    assert (second.answer, second.came) == (True, LEFT)


def test_an_answer_that_arrives_elsewhere_is_astray() -> None:
    other = Leg(end="arrived", space="x", name="container x", ends=BACK, steps=STEP)
    found = trace(two(other), question("client", "web", "tcp/80"))
    assert (found.verdict, found.code, found.leg) == ("LOST", "answer-astray", "answer")


def test_a_far_end_that_may_not_receive_from_us_is_a_doubt_and_is_asked_itself() -> None:
    half = switched(THROUGH, tunnel=replace(TUNNEL, state="init"))
    found = OneHost(half).leg(Ask(proto="tcp", port=80, source="client", address="172.17.0.2"))
    assert (found.end, [code for code, _ in found.doubts]) == ("left", ["tunnel-unwatched"])


def test_a_tunnel_that_nothing_watches_leaves_it_undetermined() -> None:
    home = Leg(end="arrived", space="c", name="container client", ends=BACK, steps=STEP)
    doubts = (("tunnel-unwatched", "no BFD"),)
    found = trace(two(home, doubts), question("client", "web", "tcp/80"))
    assert (found.verdict, found.code) == ("UNDETERMINED", "tunnel-unwatched")


SHOW = """\
netdev@ovs-netdev: hit:123 missed:4
  nku0:
    nku0 65534/2: (tap)
    nkuh 1/4: (tap)
  obr0:
    gc0a83b68d98373 1/3: (gre: key=2478734, remote_ip=192.168.59.104)
    nkv22b14d739fdb 2/5: (system)
    gone 9/none: (system)
    obr0 65534/1: (tap)
"""
TRACED = """\
Flow: tcp,in_port=LOCAL,vlan_tci=0x0000,dl_src=7a:51:f3:68:bc:b2

bridge("obr0")
--------------
 0. ip,in_port=LOCAL,nw_dst=192.168.2.0/24, priority 200, cookie 0x4e3009be761d1e30
    output:1
     -> output to native tunnel

bridge("nku0")
--------------
 0. priority 0
    NORMAL
     -> forwarding to learned port

Final flow: unchanged
Megaflow: recirc_id=0,eth,tcp,in_port=LOCAL
Datapath actions: """
PUSH = (
    "tnl_push(tnl_port(3),header(size=42,type=3,eth(dst=5a:3e:70:00:43:c1,src=a2:83:b3:4b:52:38,"
    "dl_type=0x0800),ipv4(src=169.254.250.2,dst=192.168.59.104,proto=47,tos=0,ttl=64,frag=0x4000),"
    "gre((flags=0x2000,proto=0x6558),key=0x25d28e)),out_port(2)),4"
)
VXLAN = (
    "tnl_push(tnl_port(3),header(size=50,type=4,eth(dst=5a:3e:70:00:43:c1,src=a2:83:b3:4b:52:38,"
    "dl_type=0x0800),ipv4(src=169.254.250.2,dst=10.0.0.3,proto=17,tos=0,ttl=64,frag=0x4000),"
    "udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x7)),out_port(2))"
)
SENDER = IPv4Address("169.254.250.2")
VXLAN_OUT = Output(remote=IPv4Address("10.0.0.3"), key=7, source=SENDER)
GRE_OUT = Output(remote=IPv4Address("192.168.59.104"), key=0x25D28E, source=SENDER)


@pytest.mark.parametrize(
    ("actions", "outputs", "unknown"),
    [
        (PUSH, (GRE_OUT,), ()),
        (f"clone({PUSH}),clone({VXLAN},4),5",
         (GRE_OUT, VXLAN_OUT, Output(port="nkv22b14d739fdb")), ()),
        ("1", (Output(port="obr0"),), ()),
        ("drop", (), ()),
        ("set(tunnel(tun_id=0x5,src=0.0.0.0,dst=10.0.0.2,ttl=64,tp_dst=4789,flags(df|key))),3",
         (Output(remote=IPv4Address("10.0.0.2"), key=5),), ()),
        ("ct(commit,zone=1),recirc(0x2)", (), ("ct(commit,zone=1)", "recirc(0x2)")),
        ("99", (), ("99",)),
        ("", (), ("no datapath actions in the answer",)),
    ],
)  # fmt: skip
def test_actions_of_a_switch_are_read(
    actions: str, outputs: tuple[Output, ...], unknown: tuple[str, ...]
) -> None:
    found = ofproto.pipeline(TRACED + actions, ofproto.ports(SHOW))
    assert (found.outputs, found.unknown) == (outputs, unknown)
    assert found.rules[0].startswith("obr0 table 0: ip,in_port=LOCAL")
    assert found.rules[1] == "nku0 table 0: priority 0"
    assert found.notes == ("output to native tunnel", "forwarding to learned port")


def test_a_switch_is_asked_in_its_own_words() -> None:
    header = Header(
        proto="udp", src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.2"),
        mac_src="02:00:00:00:00:01", mac_dst="02:00:00:00:00:02", sport=40000, dport=53,
    )  # fmt: skip
    asked = ofproto.question(header, 3)
    assert asked.startswith("in_port=3,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,udp,")
    assert asked.endswith("udp_src=40000,udp_dst=53")
    assert "icmp_type=8" in ofproto.question(replace(header, proto="icmp", dport=8), 3)
    assert "arp_tpa=10.0.0.2" in ofproto.question(replace(header, proto="arp"), 3)


# -- parts ---------------------------------------------------------------------------------------


def guard_table(comment: str = "netkit:0:aaaaaaaaaaaa 0 -1") -> str:
    def rule(chain: str) -> dict[str, object]:
        where = {"family": "bridge", "table": "netkit-aaaaaaaaaaaa", "chain": chain}
        return {"rule": {**where, "comment": comment, "expr": []}}

    def named(name: str, *elements: object) -> dict[str, object]:
        where = {"family": "bridge", "table": "netkit-aaaaaaaaaaaa", "name": name}
        return {"set": {**where, "elem": list(elements)}}

    pairs = [
        named("ports", {"elem": {"val": "v1", "comment": "x"}}, "v2"),
        named("macs", {"concat": ["v1", "02:00:00:00:00:02"]}),
        named("sources", {"elem": {"val": {"concat": ["v1", "10.0.0.2"]}, "comment": "x"}}),
    ]
    return json.dumps({"nftables": [*pairs, *[rule("port")] * 10, rule("prerouting")]})


def test_guards_of_ports_are_read_from_unchanged_tables_of_ours() -> None:
    found, tables = guards(guard_table(), [PORT_SECURITY])
    assert tables == {"netkit-aaaaaaaaaaaa"}
    assert found["v1"].addresses == {"10.0.0.2"}
    assert found["v1"].macs == {"02:00:00:00:00:02"}
    assert found["v2"].addresses == frozenset()
    assert guards(guard_table(comment="mine"), [PORT_SECURITY]) == ({}, frozenset())


def test_a_guarded_port_lets_a_container_speak_in_its_own_name_only() -> None:
    for address, code in (("172.17.0.3", "delivered"), ("172.17.0.4", "source-guard")):
        own = guards(guard_table(), [PORT_SECURITY])[0]["v1"]
        watch = {"v-client": replace(own, addresses=frozenset({address}),
                                     macs=frozenset({MACS["client"]}))}  # fmt: skip
        fake = town(host=host(facts=replace(host().facts, guards=watch)))
        assert traced(fake).code == code
    watch = {"v-client": own}
    assert traced(town(host=host(facts=replace(host().facts, guards=watch)))).code == "source-guard"


def test_sockets_that_wait_are_seen_with_what_they_take() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as near,
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both,
        socket.create_server(("::", 0), family=socket.AF_INET6) as six,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
    ):
        bound.bind(("127.0.0.1", 0))
        found = {(w.proto, str(w.address), w.port) for w in sock_diag.waiting("")}
        assert ("tcp", "127.0.0.1", near.getsockname()[1]) in found
        assert ("tcp", "0.0.0.0", both.getsockname()[1]) in found
        assert ("udp", "127.0.0.1", bound.getsockname()[1]) in found
        assert six.getsockname()[1] not in {port for _, _, port in found}


def test_every_code_has_its_row_in_the_documentation() -> None:
    page = ROOT / "docs" / "trace.md"
    rows = re.findall(r"^\| `([a-z-]+)` \| ([A-Z]+) \| (.+) \|$", page.read_text(), re.M)
    assert {code: (verdict, words) for code, verdict, words in rows} == dict(CODES)


def test_every_reason_of_explain_has_a_code() -> None:
    assert {*OF_JOURNEY.values(), *OF_PURPOSE.values()} <= set(CODES)


@pytest.mark.parametrize(
    ("cookie", "fix"),
    [
        ("", "ovs-ofctl --strict del-flows br0 'table=0,ip,priority=9'"),
        (", cookie 0x4e1", "ovs-ofctl --strict del-flows br0 'table=0,ip,priority=9'"),
        (", cookie 0x4e00000000000001", "ovs-ofctl dump-flows br0"),
    ],
)
def test_only_a_flow_of_another_tool_is_advised_to_be_deleted(cookie: str, fix: str) -> None:
    assert advice.flow("br0", f"br0 table 0: ip, priority 9{cookie}") == fix


@pytest.mark.parametrize("cookie", ["", ", cookie 0x4e1", ", cookie 0x9c3a1f02"])
def test_a_flow_of_ovn_is_never_advised_to_be_deleted(cookie: str) -> None:
    fix = advice.flow("br-int", f"br-int table 44: ip, priority 2001{cookie}")
    assert fix.startswith("netkit fw ls")
    assert "del-flows" not in fix
