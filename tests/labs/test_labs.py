"""Every lab of this repository holds, and does what its README says."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from netkit.lab import engines, reading
from netkit.lab.model import DOCKER
from netkit.lab.running import Machine, RunningLab
from tests.labs.conftest import (
    CLONE,
    LABS,
    foreign,
    netkit,
    root_network,
    skip_without_engines,
    traces,
)
from tests.labs.transcript import Shells, blocks, steps

LAB = "    netkit lab "
SLOW = frozenset({"15.3-weave"})
PATIENCE = 30.0  # seconds until a line of a README does what its comment says


def typed(folder: Path) -> bool:
    """Whether its README has transcripts."""
    return any(steps(part) for part in blocks((folder / "README.md").read_text()))


CHECKED = [folder for folder in LABS if not typed(folder)]  # the others say `netkit lab check`


@pytest.mark.parametrize("folder", CHECKED, ids=lambda p: p.name)
def test_every_check_of_the_lab_holds_and_nothing_is_left(folder: Path) -> None:
    before, name = root_network(), f"{folder.name[:16]}-{secrets.token_hex(3)}"
    done = netkit("lab", "check", str(folder), "--name", name, "--format", "json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert {c["result"] for c in report["checks"]} == {"pass"}
    for c in report["checks"]:
        if c["expected"] in {"blocked", "filtered", "unrouted"}:
            assert c["control"], f"silence without a control: {c}"
    assert traces(name) == []
    assert root_network() == before


LATER = CLONE / ".reference-sid"


@pytest.mark.skipif(
    not (LATER / "usr/sbin/dockerd").exists(),
    reason=f"needs {LATER}: script/reference sid unpacks it",
)
def test_the_lab_of_dockerd_holds_with_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engines.VARIABLES[DOCKER], str(LATER))
    name = f"later-{secrets.token_hex(3)}"
    done = netkit("lab", "check", str(CLONE / "labs/plugin-docker"), "--name", name, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert traces(name) == []


def readmes() -> Iterator[tuple[Path, str]]:
    """Each lab; one with transcripts for each client, but for those that take half a minute.

    There the clients take turns, each command being one's, unless NETKIT_TEST_EACH_CLIENT is set.
    """
    for folder in LABS:
        slow = folder.name in SLOW or any(i.bootstrap for i in reading.read(folder).images)
        if typed(folder) and slow and not os.environ.get("NETKIT_TEST_EACH_CLIENT"):
            yield folder, "docker+netkit"
        else:
            yield folder, "docker"
            if typed(folder) and not foreign(folder):  # there `netkit` is not the engine's client
                yield folder, "netkit"


@pytest.mark.parametrize(
    ("folder", "client"), [*readmes()], ids=lambda value: getattr(value, "name", value)
)
def test_the_commands_of_the_readme_do_what_their_comments_say(folder: Path, client: str) -> None:
    """Lines that begin with `netkit lab`, but for the lab's name, and what is typed in between."""
    skip_without_engines(folder)
    name = f"{folder.name[:16]}-{secrets.token_hex(3)}"
    parts = [*blocks((folder / "README.md").read_text())]
    lines = [line.strip() for part in parts for line in part if line.startswith(LAB)]
    assert any(" up " in line for line in lines)
    assert lines[-1].startswith("netkit lab down")
    assert folder in CHECKED or any(" check " in line for line in lines)
    stock = os.environ.get("NETKIT_TEST_DOCKER_CLI") or "docker"
    if typed(folder) and "docker" in client and not shutil.which(stock):
        pytest.skip("needs docker, the stock CLI")
    clients = [stock if each == "docker" else each for each in client.split("+")]
    try:
        with Shells(name, clients, CLONE) as shells:
            for part in parts:
                for line in part:
                    if line.startswith(LAB):
                        lab_command(line.strip(), folder, name)
                for step in steps(part):
                    shells.play(step)
    finally:
        netkit("lab", "down", name)
    assert traces(name) == []


def lab_command(line: str, folder: Path, name: str) -> None:
    """Run a line: addresses of its comment, and what has backquotes there, are in its output.

    It is run again while that does not hold: a tunnel is up some time after its two ends, and hosts
    take some seconds to learn what has changed elsewhere.
    """
    words = shlex.split(line, comments=True)[1:]
    comment = line.partition(" # ")[2]
    if words[2] == f"labs/{folder.name}":
        words += ["--name", name]
    if "ifconfig" in words and not shutil.which("ifconfig"):
        pytest.skip("needs ifconfig (Debian package net-tools)")
    if words[2] == folder.name:  # not elsewhere: a lab may have the name of a command
        words[2] = name
    silent = "timeout" in comment or "nothing" in comment
    facts = [*re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", comment), *re.findall("`([^`]+)`", comment)]
    deadline = time.monotonic() + PATIENCE
    while True:
        done = netkit(*words, check=False)
        shown = f"{line}: {done.stdout}{done.stderr}"
        if (done.returncode != 0) == silent and all(fact in done.stdout for fact in facts):
            return
        assert time.monotonic() < deadline, shown
        time.sleep(1)


def inspected(machine: Machine, *argv: str) -> object:
    return json.loads(machine.netkit(*argv))[0]


# 12-docker0

DOCKER0 = pytest.mark.lab("labs/12-docker0")


@DOCKER0
def test_docker0_is_a_switch_with_a_port_for_each_container(lab: RunningLab) -> None:
    ports = json.loads(lab.h1.run("bridge", "-j", "link"))
    assert [p["master"] for p in ports] == ["docker0", "docker0"]
    assert lab.web.mac() not in {p.get("address") for p in ports}
    assert "172.17.0.1/16" in lab.h1.run("ip", "addr", "show", "docker0")
    assert lab.client.can_reach(lab.web, "tcp/80")
    assert "hello" in lab.client.run("wget", "-qO-", f"http://{lab.web.ip}/")


@DOCKER0
def test_what_leaves_is_masqueraded_and_what_comes_in_is_not(lab: RunningLab) -> None:
    with lab.outside.tap("eth0") as out, lab.web.tap("eth0") as web:
        assert lab.client.can_reach("10.0.0.2")
        assert out.saw(IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=8))
        assert out.never_saw(lambda f: IP in f and f[IP].src.startswith("172.17."), within=0.1)
        assert lab.outside.can_reach("h1:8080")
        assert web.saw(IP(src="10.0.0.2", dst=lab.web.ip) / TCP(dport=80))


@DOCKER0
def test_a_neighbour_that_pretends_to_be_the_loopback_or_a_container_gets_nowhere(
    lab: RunningLab,
) -> None:
    frame = Ether(dst=lab.h1.mac())
    with lab.web.tap("eth0") as tap:
        lab.outside.send(frame / IP(src="127.0.0.1", dst=lab.web.ip) / UDP(dport=7001))
        lab.outside.send(frame / IP(src="172.17.0.1", dst=lab.web.ip) / UDP(dport=7001))
        lab.outside.send(frame / IP(dst=lab.web.ip) / UDP(dport=7001))
        lab.client.send(IP(dst=lab.web.ip) / UDP(dport=7002))  # the tap receives it: a control
        assert tap.saw(UDP(dport=7002))
        assert tap.never_saw(UDP(dport=7001), within=0.3)


# 12-custom-docker0

CUSTOM = pytest.mark.lab("labs/12-custom-docker0")


@CUSTOM
def test_the_flags_give_docker0_its_address_range_and_mtu(lab: RunningLab) -> None:
    link = json.loads(lab.h1.run("ip", "-j", "addr", "show", "docker0"))[0]
    assert link["mtu"] == 1400
    assert link["addr_info"][0]["local"] == "192.168.200.1"
    for c in (lab.web, lab.client):
        assert IPv4Address(c.ip) in IPv4Network("192.168.200.64/26")
        assert "mtu 1400" in c.run("ip", "addr", "show", "eth0")
    assert "default via 192.168.210.254" in lab.one.run("ip", "route")


@CUSTOM
def test_packets_to_other_networks_go_to_the_default_gateway_only(
    lab: RunningLab,
) -> None:
    with lab.h3.tap("docker0") as tap:
        assert not lab.one.can_reach("10.0.0.1", within=0)
        assert tap.saw(ARP(op=1, pdst="192.168.210.254"))
        assert tap.never_saw(IP(dst="10.0.0.1"), within=0.1)


@CUSTOM
def test_an_address_given_to_docker0_by_hand_is_its_own_from_the_next_start_on(
    lab: RunningLab,
) -> None:
    lab.h2.netkit("rm", "-f", "plain")
    replaced = "ip addr flush dev docker0; ip addr add 192.168.201.1/24 dev docker0"
    lab.h2.run("sh", "-c", replaced)  # at once, as ifconfig does: what is only deleted comes back
    for _ in range(2):  # and from the one after
        lab.restart("h2")
        lab.up()
        assert lab.plain.ip == "192.168.201.2"
        assert lab.plain.can_reach("192.168.201.1")
        assert lab.plain.can_reach("h1:8080")
    found = lab.h2.run("ip", "-4", "addr", "show", "docker0")
    assert found.count("inet ") == 1


# 12-br0

BR0 = pytest.mark.lab("labs/12-br0")


def of_br0(lab: RunningLab) -> str:
    """Return what is the administrator's: the bridge, its addresses, first port and settings."""
    link = json.loads(lab.h1.run("ip", "-j", "-d", "link", "show", "br0"))[0]
    kept = {k: link[k] for k in ("ifname", "mtu", "flags", "ifindex") if k in link}
    addresses = json.loads(lab.h1.run("ip", "-j", "addr", "show", "br0"))[0]["addr_info"]
    kept["addresses"] = [(a["local"], a["prefixlen"]) for a in addresses]
    ports = [p for p in json.loads(lab.h1.run("bridge", "-j", "link")) if p["ifname"] == "eth1"]
    kept["ports"] = [(p["ifname"], p["master"]) for p in ports]
    kept["sysctls"] = lab.h1.run(
        "sysctl", "net.ipv6.conf.br0.disable_ipv6", "net.ipv6.conf.br0.accept_ra"
    )
    return json.dumps(kept)


@BR0
def test_the_network_is_that_of_the_bridge_and_the_range_narrows_it(lab: RunningLab) -> None:
    net = inspected(lab.h1, "network", "inspect", "bridge")
    assert isinstance(net, dict)
    assert net["IPAM"]["Config"] == [
        {"Subnet": "192.168.100.0/24", "IPRange": "192.168.100.128/26", "Gateway": "192.168.100.1"}
    ]
    for c in (lab.web, lab.client):
        assert IPv4Address(c.ip) in IPv4Network("192.168.100.128/26")
    assert "docker0" not in lab.h1.run("ip", "-br", "link")


@BR0
def test_neighbours_who_remember_another_mac_address_are_notified(lab: RunningLab) -> None:
    def forget() -> bool:
        stale = ("lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable")
        lab.printer.run("ip", "neigh", "replace", lab.web.ip, *stale)
        return bool(lab.printer.cannot_reach(lab.web, "tcp/80"))

    # Announcements of an earlier start, which last for seconds, may still come.
    assert any(forget() for _ in range(5))
    lab.h1.netkit("restart", "-t", "0", "web")
    # By itself the wrong entry would stay for 15 s at least: base_reachable_time, arp(7).
    assert any(lab.printer.can_reach(lab.web, "tcp/80") for _ in range(8))


@BR0
def test_the_bridge_survives_its_engine_and_is_never_changed(lab: RunningLab) -> None:
    before = of_br0(lab)
    assert "accept_ra = 1" in before, "as it was before the daemon came: the kernel's default"
    lab.h1.daemon.kill()
    assert of_br0(lab) == before
    lab.up()
    assert of_br0(lab) == before
    assert lab.check()
    for c in ("web", "client"):
        lab.h1.netkit("rm", "-f", c)
    assert of_br0(lab) == before
    lab.h1.daemon.stop()
    lab.h1.daemon.ensure([])  # without -b: docker0 takes its place, and br0 stays
    assert of_br0(lab) == before
    assert "docker0" in lab.h1.run("ip", "-br", "link")
    lab.restart("h1")
    assert "docker0" not in lab.h1.run("ip", "-br", "link")
    lab.up()
    assert of_br0(lab) == before
    assert lab.check()


@BR0
def test_a_bridge_without_an_address_is_refused_with_the_commands_to_type(lab: RunningLab) -> None:
    daemon = lab.h1.daemon
    daemon.stop()
    lab.h1.run("ip", "addr", "flush", "dev", "br0")
    try:
        with pytest.raises(Exception, match="br0 must exist and have an IPv4 address"):
            lab.restart("h1")
    finally:
        for n in (100, 101):
            lab.h1.run("ip", "addr", "add", f"192.168.{n}.1/24", "dev", "br0")
    lab.up()
    assert lab.check()


# 13-icc

ICC = pytest.mark.lab("labs/13-icc")


@ICC
def test_without_icc_not_a_frame_of_any_kind_passes(lab: RunningLab) -> None:
    with lab.db.tap("eth0") as tap:
        to = Ether(dst=lab.db.mac())
        lab.guest.send(to / IP(dst=lab.db.ip) / UDP(dport=7001))
        lab.guest.send(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=lab.db.ip))
        lab.guest.send(to / IP(dst=lab.db.ip) / TCP(dport=80))
        lab.shut.send(IP(dst=lab.db.ip) / UDP(dport=7002))  # the tap receives it: a control
        assert tap.saw(UDP(dport=7002))
        assert tap.never_saw(Ether(src=lab.guest.mac()), within=0.3)


@ICC
def test_icc_stays_off_through_kills_and_restarts(lab: RunningLab) -> None:
    lab.shut.daemon.kill()
    lab.up()
    assert lab.guest.cannot_reach(lab.db, "tcp/80")
    lab.shut.netkit("restart", "guest")
    assert lab.guest.cannot_reach(lab.db)
    assert lab.right.can_reach(lab.left, "tcp/80")


# 13-link


@pytest.mark.lab("labs/13-link")
def test_a_link_follows_a_restart_with_another_address(lab: RunningLab) -> None:
    old = lab.db.ip
    assert lab.web.can_reach(lab.db, "tcp/80")  # busybox's wget with -T crashes on names
    assert "hello" in lab.web.run("wget", "-qO-", "http://database/")
    lab.h1.netkit("stop", "-t", "0", "db")
    lab.h1.netkit("run", "-d", "--name", "squatter", "busybox", "sleep", "1000")
    lab.h1.netkit("start", "db")
    assert lab.db.ip != old
    assert lab.web.can_reach(lab.db, "tcp/80")
    assert "hello" in lab.web.run("wget", "-qO-", "http://database/")
    assert lab.guest.cannot_reach(lab.db, "tcp/80")
    lab.restart("h1")
    assert lab.web.can_reach(lab.db, "tcp/80")
    assert lab.web.cannot_reach(lab.guest)


# 13-drop

DROP = pytest.mark.lab("labs/13-drop")


@DROP
def test_the_line_of_the_course_survives_restarts_of_container_and_daemon(lab: RunningLab) -> None:
    def drops() -> list[str]:
        """Ours stand first: they were inserted."""
        return lab.h1.run("iptables", "-S", "DOCKER").splitlines()[1:4]

    before = drops()
    assert any("-s 10.0.0.3/32" in line for line in before)
    for act in (
        lambda: lab.restart("h1"),
        lab.h1.daemon.kill,
        lambda: lab.h1.netkit("restart", "web"),
        lambda: lab.h1.netkit("run", "-d", "--name", "more", "-p", "9000:80", "busybox", "sleep",
                              "1000"),
        lambda: lab.h1.netkit("rm", "-f", "more"),
    ):  # fmt: skip
        act()
        lab.up()
        assert drops() == before
        assert lab.friend.can_reach("h1:8080")
        assert lab.villain.cannot_reach("h1:8080")


@DROP
def test_up_again_adds_no_rule_twice(lab: RunningLab) -> None:
    before = lab.h1.run("iptables", "-S")
    lab.up()
    assert lab.h1.run("iptables", "-S") == before
