"""What explain and show say where other tools wrote rules, or netkit none: held to packets.

Each setting is a small world, two or three rules of another tool, and what these do to a probe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netkit.driver import NoFirewall
from netkit.explain.answer import explain
from netkit.explain.words import text
from netkit.kernel.iptables import Variant
from plugins.firewall import Iptables
from runtime.foreignrules import Home, concerning
from tests.netns.conftest import Lab
from tests.netns.test_reach import question_of
from tests.reach.great import FAR, NEAR, OWN, SERVED
from tests.reach.model import Box, Net, Port, Probe, World, predict
from tests.reach.probe import Round, Servers
from tests.reach.stage import Backend, backend
from tests.reach.town import LAN, Town, town

__all__ = ["backend"]  # a fixture
pytestmark = pytest.mark.root

ONE, TWO = (
    Net(name=name, cidr=IPv4Network(f"172.20.{n}.0/24"), filtered=False)
    for n, name in enumerate(("one", "two"), 1)
)
WEB = IPv4Address("172.20.1.2")
WORLD = World(
    host=(LAN, ONE.gateway, TWO.gateway),
    nets={"one": ONE, "two": TWO},
    boxes={
        "web": Box(name="web", homes={"one": WEB}, default="one"),
        "mate": Box(name="mate", homes={"one": ONE.cidr[3]}, default="one"),
        "other": Box(name="other", homes={"two": TWO.cidr[2]}, default="two"),
    },
    ports=(
        Port(box="web", net="one", inside=80, outside=8080),
        Port(box="other", net="two", inside=99, outside=8686),
    ),
    outside={FAR: "far", NEAR: "near"},
)
BY_PORT = {who: Probe(who=who, dst=LAN, port=8080) for who in (str(FAR), str(NEAR), "other")}
STRAIGHT = {who: Probe(who=who, dst=WEB, port=80) for who in (str(FAR), "mate", "other", "host")}
PROBES = (*BY_PORT.values(), *STRAIGHT.values(), Probe(who=str(FAR), dst=LAN, port=8686))


@dataclass(frozen=True)
class Setting:
    rules: tuple[str, ...]  # of iptables
    changed: dict[Probe, str]  # who answers instead


SETTINGS = {
    "DOCKER, as the course types it": Setting(
        (f"-I DOCKER -s {FAR} -d {WEB} -p tcp --dport 80 -j DROP",), {BY_PORT[str(FAR)]: ""}
    ),
    "DOCKER-USER": Setting((f"-I DOCKER-USER -s {NEAR} -j DROP",), {BY_PORT[str(NEAR)]: ""}),
    "FORWARD": Setting(
        (f"-I FORWARD -d {WEB} -i lan0 -j ACCEPT",), {STRAIGHT[str(FAR)]: "web"}
    ),
    "nat ACCEPT": Setting(
        (f"-t nat -I PREROUTING -s {FAR} -p tcp --dport 8080 -j ACCEPT",), {BY_PORT[str(FAR)]: ""}
    ),
    "nat REDIRECT": Setting(
        (f"-t nat -I PREROUTING -s {FAR} -p tcp --dport 8080 -j REDIRECT --to-ports {OWN}",),
        {BY_PORT[str(FAR)]: "host"},
    ),
}


def heard(t: Town, wanted: dict[Probe, str]) -> dict[Probe, str]:
    expected = [p for p in PROBES if wanted[p]]
    with Servers(t.services(SERVED, OWN)):
        return dict(Round(t.places()).run(PROBES, expected))


def plain(w: World) -> dict[Probe, str]:
    return {p: predict(w, p).server for p in PROBES}


def disagreements(t: Town, packets: dict[Probe, str]) -> Iterator[str]:
    facts = t.facts()
    for p, who in packets.items():
        e = explain(question_of(p), facts)
        meant = {"": "", "host": "the host"}.get(who, f"container {who}")
        if e.verdict == "undetermined":
            yield f"{p}: undetermined\n{text(e)}"
        elif (e.to if e.verdict == "delivered" else "") != meant and not _refused(e.to, who, p):
            yield f"{p}: real packets {who!r}\n{text(e)}"


def _refused(to: str, who: str, p: Probe) -> bool:
    """It arrives at the host, where nothing listens on that port."""
    return to == "the host" and not who and p.port != OWN


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_rules_of_other_tools_are_in_what_explain_and_show_say(
    lab: Lab, tmp_path: Path, variant: Variant
) -> None:
    tool = f"iptables-{variant}"
    with town(lab, WORLD, Iptables(), lab.host(variant), tmp_path, filtered=False) as t:
        for name, setting in SETTINGS.items():
            for rule in setting.rules:
                lab.run(tool, *rule.split())
            wanted = plain(WORLD) | setting.changed
            packets = heard(t, wanted)
            assert packets == wanted, name
            assert list(disagreements(t, packets)) == [], name
            found = concerning(t.facts().rules, [Home(WEB, t.bridge("web"))], {8080})
            assert len(found) == len(setting.rules), (name, found)
            for rule in setting.rules:
                lab.run(tool, *rule.replace("-I", "-D").split())


def test_without_rules_explain_says_what_packets_do(lab: Lab, tmp_path: Path) -> None:
    """--iptables=false: nothing is published, and everybody reaches every address."""
    w = replace(WORLD, ports=())
    with town(lab, w, NoFirewall(), lab.host(), tmp_path, filtered=False) as t:
        wanted = dict.fromkeys(PROBES, "") | dict.fromkeys(STRAIGHT.values(), "web")
        packets = heard(t, wanted)
        assert packets == wanted
        assert list(disagreements(t, packets)) == []


@pytest.mark.parametrize("repaired", [False, True], ids=["before repair", "after repair"])
def test_rules_restored_without_comments_are_known_before_and_after_repair(
    lab: Lab, tmp_path: Path, backend: Backend, repaired: bool
) -> None:
    kernel = lab.host(backend.variant)
    with town(lab, WORLD, backend.firewall, kernel, tmp_path, filtered=False) as t:
        tool = f"iptables-{backend.variant}"
        if backend.variant == "legacy":
            saved = re.sub(r'-m comment --comment "[^"]*" ', "", lab.run(f"{tool}-save"))
            lab.run(f"{tool}-restore", text=saved)
        else:
            saved = lab.run("nft", "list", "ruleset")
            lab.run("nft", "flush", "ruleset")
            lab.run("nft", "-f", "-", text=saved)
        if repaired:
            t.net.repair()
            assert t.net.drift() == ()
        packets = heard(t, plain(WORLD))
        assert packets == plain(WORLD)
        assert list(disagreements(t, packets)) == []
        if backend.native or not repaired:
            return
        t.net.close(t.net.endpoints()[0].sandbox)
        listed = lab.run(f"{tool}-save")
        assert "incompatible" not in listed
        assert [k for k in listed.splitlines() if k[:2] == "-A" and "netkit:" not in k] == []
