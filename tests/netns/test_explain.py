"""`fw explain` on live rules typed by hand, compared with real packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netkit.diagnose.explain.answer import explain
from netkit.diagnose.explain.question import question
from netkit.diagnose.explain.words import text
from netkit.kernel.iptables.tools import Variant
from plugins.firewall.iptables import Iptables
from tests.netns.conftest import Lab
from tests.reach.model import Box, Net, Port, Probe, World
from tests.reach.probe import Round, Servers
from tests.reach.town import LAN, Town, town

pytestmark = pytest.mark.root

A = IPv4Address
FAR = A("198.51.100.9")
WEB = A("172.20.1.2")
OWN = 7777
WORLD = World(
    host=(LAN,),
    nets={"one": Net(name="one", cidr=IPv4Network("172.20.1.0/24"))},
    boxes={
        "web": Box(name="web", homes={"one": WEB}, default="one"),
        "mate": Box(name="mate", homes={"one": A("172.20.1.3")}, default="one"),
    },
    ports=(Port(box="web", net="one", inside=80, outside=8080),),
    outside={FAR: "far"},
)
NEIGHBOUR = f"lan:{FAR}@lan0"
FOREIGN = "foreign, not made by netkit"


@dataclass(frozen=True, kw_only=True)
class Case:
    """`iptables` gets the words of `typed`, with -I or -A; `undone` with -D."""

    typed: str
    verdict: str
    rule: str = ""  # how the deciding rule's text begins
    place: str = ""  # table and chain
    whose: str = FOREIGN
    source: str = NEIGHBOUR
    target: A = LAN
    port: int = 8080
    to: str = ""
    leg: str = "request"


CASES = (
    Case(  # the course's own line
        typed=f"-I DOCKER -s {FAR} -d {WEB} -p TCP --dport 80 -j DROP",
        verdict="dropped", place="filter DOCKER",
        rule=f"-A DOCKER -s {FAR}/32 -d {WEB}/32 -p tcp -m tcp --dport 80 -j DROP",
    ),
    Case(
        typed="-I DOCKER-USER -i lan0 -p tcp -m conntrack --ctorigdstport 8080 -j REJECT",
        verdict="rejected", place="filter DOCKER-USER", whose="the administrator's",
    ),
    Case(
        typed="-I DOCKER-USER -s 198.51.100.0/28 ! -i lan+ -j DROP",
        verdict="delivered", to="container web", place="filter DOCKER", whose="ours",
    ),
    Case(
        typed="-t raw -I PREROUTING -i lan0 -p tcp -m multiport --dports 22,8080:8090 -j DROP",
        verdict="dropped", place="raw PREROUTING",
    ),
    Case(
        typed="-t mangle -I FORWARD -o lan0 -m conntrack --ctstate ESTABLISHED -j DROP",
        verdict="dropped", place="mangle FORWARD", leg="answer",
    ),
    Case(
        typed=f"-t nat -I PREROUTING -p tcp --dport 9090:9099 -j DNAT --to {WEB}:80-89/9090",
        verdict="delivered", to="container web", port=9090, place="",
    ),
    Case(
        typed=f"-t nat -I PREROUTING -i lan0 -p tcp --dport 9091 -j REDIRECT --to-ports {OWN}",
        verdict="delivered", to="the host", port=9091,
    ),
    Case(
        typed=f"-I INPUT -i lan0 -p tcp --dport {OWN} -j DROP",
        verdict="dropped", place="filter INPUT", port=OWN,
    ),
    Case(
        typed=f"-I OUTPUT -d {WEB} -p tcp --tcp-flags SYN,ACK SYN -j DROP",
        verdict="dropped", place="filter OUTPUT", source="host", target=WEB, port=80,
    ),
    Case(
        typed=f"-I FORWARD -s 172.20.1.3 -d {WEB} -j DROP",  # on the bridge: br_netfilter
        verdict="dropped", place="filter FORWARD", source="mate", target=WEB, port=80,
    ),
    Case(
        typed="-t nat -I POSTROUTING -s 172.20.1.3 -o lan0 -j SNAT --to-source 198.51.100.1",
        verdict="delivered", to="the outside by lan0", source="mate", target=FAR, port=80,
        place="filter DOCKER-FORWARD", whose="ours",
    ),
)  # fmt: skip


@pytest.fixture(params=["nft", "legacy"])
def variant(request: pytest.FixtureRequest) -> Variant:
    return "legacy" if request.param == "legacy" else "nft"


@contextmanager
def small(lab: Lab, variant: Variant, folder: Path) -> Iterator[Town]:
    with town(lab, WORLD, Iptables(), lab.host(variant), folder, filtered=False) as t:
        yield t


def ask(t: Town, source: str, target: A, port: int) -> str:
    """Return the name of the server that answers."""
    who = str(FAR) if source == NEIGHBOUR else source
    probe = Probe(who=who, dst=target, port=port)
    expected = [probe] if explain(question(source, str(target), f"{port}"), t.facts()).to else []
    with Servers(t.services([("tcp", 80)], OWN)):
        return Round(t.places()).run([probe], expected)[probe]


def test_rules_typed_by_hand_are_explained_as_packets_fare(
    lab: Lab, tmp_path: Path, variant: Variant
) -> None:
    with small(lab, variant, tmp_path) as t:
        for case in CASES:
            words = case.typed.split()
            assert ask(t, NEIGHBOUR, LAN, 8080) == "web"  # before, and after each
            lab.run(f"iptables-{variant}", *words)
            e = explain(question(case.source, str(case.target), f"{case.port}"), t.facts())
            explained = f"{case.typed}\n{text(e)}"
            assert (e.verdict, e.to, e.leg) == (case.verdict, case.to, case.leg), explained
            if case.place:
                assert e.rule is not None, explained
                assert f"{e.rule.table} {e.rule.chain}" == case.place, explained
                assert e.rule.text.startswith(case.rule), explained
                assert e.rule.whose.startswith(case.whose), explained
                assert e.rule.tool == f"iptables-{variant}", explained
            answered = ask(t, case.source, case.target, case.port)
            assert bool(answered) == (case.verdict == "delivered"), f"{answered!r}: {explained}"
            undone = ["-D" if w == "-I" else w for w in words]
            lab.run(f"iptables-{variant}", *undone)


def test_what_cannot_be_evaluated_is_undetermined(
    lab: Lab, tmp_path: Path, variant: Variant
) -> None:
    asked = question(NEIGHBOUR, str(LAN), "8080")
    tool = f"iptables-{variant}"
    with small(lab, variant, tmp_path) as t:
        lab.run(tool, "-I", "DOCKER-USER", *"-m string --algo bm --string x -j DROP".split())
        e = explain(asked, t.facts())
        assert e.verdict == "undetermined"
        assert e.rule is not None
        assert "--string" in e.rule.text
        lab.run(tool, "-F", "DOCKER-USER")
        lab.run("ip", "rule", "add", "from", "192.0.2.0/24", "lookup", "100")
        assert explain(asked, t.facts()).verdict == "undetermined"
        lab.run("ip", "rule", "del", "from", "192.0.2.0/24", "lookup", "100")
        assert explain(asked, t.facts()).verdict == "delivered"


def test_foreign_tables_of_nftables_count(lab: Lab, tmp_path: Path) -> None:
    with small(lab, "nft", tmp_path) as t:
        lab.run("nft", "-f", "-", text=f"""
            table inet guard {{
                set bad {{ type ipv4_addr; flags interval; elements = {{ {FAR}/31 }} }}
                chain forward {{
                    type filter hook forward priority -10; policy accept;
                    ct state established,related accept
                    ip saddr @bad tcp dport {{ 80, 443 }} counter drop comment "no guests"
                }}
            }}""")  # fmt: skip
        e = explain(question(NEIGHBOUR, str(LAN), "8080"), t.facts())
        assert (e.verdict, e.rule and e.rule.table) == ("dropped", "inet guard"), text(e)
        assert e.rule is not None
        assert e.rule.text.startswith("ip saddr @bad tcp dport { 80, 443 } counter packets")
        assert ask(t, NEIGHBOUR, LAN, 8080) == ""
        assert ask(t, "mate", LAN, 8080) == "web"  # the same server, at the same time


def test_a_set_that_iptables_does_not_list_is_not_taken_for_all(lab: Lab, tmp_path: Path) -> None:
    asked = question(NEIGHBOUR, str(LAN), "8080")
    with small(lab, "nft", tmp_path) as t:
        lab.run("nft", "add set ip filter away { type inet_service; elements = { 9 }; }")
        lab.run("nft", "insert rule ip filter DOCKER-USER tcp dport @away drop")
        listed = lab.run("iptables-nft", "-S", "DOCKER-USER")
        assert "-A DOCKER-USER -p tcp -j DROP" in listed
        assert ask(t, NEIGHBOUR, LAN, 8080) == "web"
        e = explain(asked, t.facts())
        assert e.verdict == "undetermined", text(e)
        assert e.rule is not None
        assert e.rule.text == "-A DOCKER-USER -p tcp -j DROP"


def test_settings_of_the_kernel_decide_as_well(lab: Lab, tmp_path: Path) -> None:
    with small(lab, "nft", tmp_path) as t:
        lab.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        e = explain(question(NEIGHBOUR, str(LAN), "8080"), t.facts())
        assert (e.verdict, e.reason) == ("not routed", "no-forwarding")
        assert ask(t, NEIGHBOUR, LAN, 8080) == ""
        lab.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        assert ask(t, NEIGHBOUR, LAN, 8080) == "web"
