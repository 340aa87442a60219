"""`fw show`, `fw ls`, `fw check`, `fw explain` and `net trace` in odd settings, beside packets.

Each setting is a small world: rules of another tool and what these do to a probe, no rules of
netkit's, rules without comments, a bridge that has the NIC.  `check_commands` asks all commands in
each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import FunctionType

import pytest

from netkit.driver import NoFirewall
from netkit.kernel.iptables.tools import Variant
from netkit.spec import NetworkSpec, SubnetSpec
from plugins.firewall.iptables import Iptables
from tests.netns.conftest import Lab
from tests.reach.commands import COMMANDS, Setting, contradictions
from tests.reach.great import FAR, NEAR, OWN, SERVED
from tests.reach.model import Box, Net, Port, Probe, Rule, World, predict
from tests.reach.probe import Round, Servers
from tests.reach.stage import Backend, backend
from tests.reach.town import LAN, OPTION, Town, town

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
        Port(box="mate", net="one", inside=80, outside=8888),
        Port(box="other", net="two", inside=99, outside=8686),
    ),
    rules=(
        Rule(
            box="mate",
            verdict="drop",
            source=IPv4Network(NEAR),
            proto="tcp",
            first=8888,
            last=8888,
            published=True,
        ),
    ),
    outside={FAR: "far", NEAR: "near"},
)
BY_PORT = {who: Probe(who=who, dst=LAN, port=8080) for who in (str(FAR), str(NEAR), "other")}
STRAIGHT = {who: Probe(who=who, dst=WEB, port=80) for who in (str(FAR), "mate", "other", "host")}
RULED = tuple(Probe(who=str(who), dst=LAN, port=8888) for who in (FAR, NEAR))
PROBES = (
    *BY_PORT.values(), *STRAIGHT.values(), *RULED, Probe(who=str(FAR), dst=LAN, port=8686),
)  # fmt: skip


SEGMENT = Net(name="one", cidr=IPv4Network("198.51.100.0/24"), filtered=False)
ON_LAN = replace(
    WORLD,
    host=(LAN, TWO.gateway),
    nets={"one": SEGMENT, "two": TWO},
    boxes={
        name: replace(b, homes={"one": SEGMENT.cidr[128 + n]} if "one" in b.homes else b.homes)
        for n, (name, b) in enumerate(WORLD.boxes.items())
    },
)
SAME_SUBNET = (SubnetSpec(subnet=str(SEGMENT.cidr), gateway=str(LAN)),)
BRIDGED = {
    "-b br0 on a NIC": NetworkSpec(
        name="one", subnets=SAME_SUBNET,
        options={f"{OPTION}name": "br0", f"{OPTION}default_bridge": "true"},
    ),
    "lan": NetworkSpec(
        name="one", driver="lan", subnets=SAME_SUBNET, options={"bridge": "br0", "probe": "0"}
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    rules: tuple[str, ...]  # of iptables
    changed: dict[Probe, str]  # who answers instead
    drifts: bool = False  # is it before netkit's in FORWARD, where those are to be first?
    found: int = 0  # by fw check: it takes a published port


SETTINGS = {
    "DOCKER, as the course types it": Foreign(
        (f"-I DOCKER -s {FAR} -d {WEB} -p tcp --dport 80 -j DROP",), {BY_PORT[str(FAR)]: ""}
    ),
    "DOCKER-USER": Foreign((f"-I DOCKER-USER -s {NEAR} -j DROP",), {BY_PORT[str(NEAR)]: ""}),
    "FORWARD": Foreign(
        (f"-I FORWARD -d {WEB} -i lan0 -j ACCEPT",), {STRAIGHT[str(FAR)]: "web"}, drifts=True
    ),
    "nat ACCEPT": Foreign(
        (f"-t nat -I PREROUTING -s {FAR} -p tcp --dport 8080 -j ACCEPT",),
        {BY_PORT[str(FAR)]: ""},
        found=1,
    ),
    "nat RETURN": Foreign(
        ("-t nat -I PREROUTING -p tcp --dport 8080 -j RETURN",),
        dict.fromkeys(BY_PORT.values(), ""),
        found=1,
    ),
    "nat REDIRECT": Foreign(
        (f"-t nat -I PREROUTING -s {FAR} -p tcp --dport 8080 -j REDIRECT --to-ports {OWN}",),
        {BY_PORT[str(FAR)]: "host"},
        found=1,
    ),
    "raw NOTRACK": Foreign(
        (f"-t raw -I PREROUTING -s {FAR} -p tcp --dport 8080 -j CT --notrack",),
        {BY_PORT[str(FAR)]: ""},
        found=1,
    ),
}


def check_commands(
    t: Town, predicted: dict[Probe, str], *, enforced: bool = True, drifts: bool = False,
    foreign: int = 0, found: int = 0, lost: bool = False,
) -> None:  # fmt: skip
    """Check that packets do as predicted, and that each of the five commands agrees with them."""
    expected = [p for p in predicted if predicted[p]]
    with Servers(t.services(SERVED, OWN)):
        packets = dict(Round(t.places()).run(list(predicted), expected))
        assert packets == predicted
        setting = Setting(
            town=t, packets=packets, drifts=drifts, foreign=foreign, found=found, lost=lost
        )
        wrong = contradictions(setting, enforced=enforced)
    assert not wrong, "\n\n".join(wrong)


def test_every_command_is_asked_in_every_setting() -> None:
    """`contradictions` fails for one that claims nothing."""
    assert set(COMMANDS) == {"fw show", "fw ls", "fw check", "fw explain", "net trace"}
    tests = [v for k, v in globals().items() if k.startswith("test_") and "lab" in _args(v)]
    assert len(tests) == 5
    assert [t.__name__ for t in tests if "check_commands" not in t.__code__.co_names] == []


def _args(test: FunctionType) -> tuple[str, ...]:
    return test.__code__.co_varnames[: test.__code__.co_argcount]


def plain(w: World) -> dict[Probe, str]:
    return {p: predict(w, p).server for p in PROBES}


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_all_commands_agree_with_packets_among_rules_of_other_tools(
    lab: Lab, tmp_path: Path, variant: Variant
) -> None:
    tool = f"iptables-{variant}"
    with town(lab, WORLD, Iptables(), lab.host(variant), tmp_path, filtered=False) as t:
        for setting in SETTINGS.values():
            for rule in setting.rules:
                lab.run(tool, *rule.split())
            predicted = plain(WORLD) | setting.changed
            many = len(setting.rules)
            check_commands(t, predicted, drifts=setting.drifts, foreign=many, found=setting.found)
            if setting.drifts:
                t.net.repair()
                check_commands(t, plain(WORLD), foreign=len(setting.rules))
            for rule in setting.rules:
                lab.run(tool, *rule.replace("-I", "-D").split())


def test_all_commands_agree_with_packets_without_rules_of_netkits(lab: Lab, tmp_path: Path) -> None:
    """--iptables=false: nothing is published, and every address is reached from everywhere."""
    with town(lab, WORLD, NoFirewall(), lab.host(), tmp_path, filtered=False) as t:
        predicted = dict.fromkeys(PROBES, "") | dict.fromkeys(STRAIGHT.values(), "web")
        check_commands(t, predicted, enforced=False)


def on_lan(name: str) -> tuple[World, dict[Probe, str]]:
    """Return the world of that setting, and the predicted answers."""
    w = ON_LAN
    web, mate = (w.boxes[n].homes["one"] for n in ("web", "mate"))
    ruled = RULED
    if name == "lan":
        closed = Rule(box="mate", verdict="drop", source=IPv4Network(NEAR), proto="tcp",
                      first=80, last=80)  # fmt: skip
        w = replace(w, ports=w.ports[2:], rules=(closed,))
        ruled = tuple(Probe(who=str(who), dst=mate, port=80) for who in (FAR, NEAR))
    straight = [Probe(who=who, dst=web, port=80) for who in (str(FAR), "mate", "other", "host")]
    predicted = {p: predict(w, p).server for p in (*straight, *BY_PORT.values(), *ruled)}
    predicted[straight[0]] = "web"  # as a neighbour
    if name == "lan":
        predicted |= dict.fromkeys(straight, "web") | {ruled[0]: "mate"}
        predicted |= dict.fromkeys(BY_PORT.values(), "")  # the host's own, where nothing listens
    return w, predicted


@pytest.mark.parametrize("name", BRIDGED)
def test_who_is_behind_a_bridge_that_has_the_nic(lab: Lab, tmp_path: Path, name: str) -> None:
    """Neighbours on the LAN are the containers' own; rules see them where bridges are filtered."""
    w, predicted = on_lan(name)
    with town(
        lab, w, Iptables(), lab.host(), tmp_path, filtered=name == "lan",
        bridged={"one": BRIDGED[name]},
    ) as t:  # fmt: skip
        check_commands(t, predicted)
        if name == "lan":  # another tool switches it off, with the rule in the kernel
            lab.run("ip", "link", "set", "br0", "type", "bridge", "nf_call_iptables", "0")
            lab.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
            (probe,) = [p for p in predicted if p.who == str(NEAR) and p.port == 80]
            check_commands(t, predicted | {probe: "mate"}, found=1)


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
            if not backend.native:
                saved = re.sub(' comment "[^"]*"', "", saved)
            lab.run("nft", "flush", "ruleset")
            lab.run("nft", "-f", "-", text=saved)
        if repaired:
            t.net.repair()
            assert t.net.drift() == ()
        lost = not backend.native and not repaired
        check_commands(t, plain(WORLD), drifts=lost, lost=lost)
        if backend.native or not repaired:
            return
        t.net.close(t.net.endpoints()[0].sandbox)
        listed = lab.run(f"{tool}-save")
        assert "incompatible" not in listed
        assert [k for k in listed.splitlines() if k[:2] == "-A" and "netkit:" not in k] == []


def test_rules_that_nft_restored_with_their_comments_are_again_as_iptables_lists_them(
    lab: Lab, tmp_path: Path
) -> None:
    with town(lab, WORLD, Iptables(), lab.host("nft"), tmp_path, filtered=False) as t:
        before = lab.run("iptables-nft-save")
        saved = lab.run("nft", "list", "ruleset")
        assert "ct state related,established counter packets" in saved
        lab.run("nft", "flush", "ruleset")
        lab.run("nft", "-f", "-", text=saved)
        assert "incompatible" in lab.run("iptables-nft-save")
        check_commands(t, plain(WORLD), drifts=True)
        t.net.repair()
        assert t.net.drift() == ()
        check_commands(t, plain(WORLD))
        after = lab.run("iptables-nft-save")
    assert _rules(after) == _rules(before)


def _rules(saved: str) -> list[str]:
    return sorted(line for line in saved.splitlines() if line.startswith("-A"))
