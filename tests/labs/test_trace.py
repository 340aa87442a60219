"""`netkit net trace` compared with real packets in every lab."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netkit.diagnose.trace.join import Trace
from netkit.errors import NotFound
from netkit.kernel import netns
from netkit.lab.checks import parse
from netkit.lab.facts import Facts, Node
from netkit.lab.probe import Seen, probe
from netkit.lab.running import RunningLab
from tests.labs.conftest import CLONE, running, traces

SERVICES = (("icmp", 0), ("tcp", 80), ("tcp", 81), ("udp", 53))
FEW = (("icmp", 0), ("tcp", 80))
LABS = {
    "12-docker0": SERVICES, "12-br0": SERVICES, "13-icc": SERVICES, "13-link": SERVICES,
    "13-drop": SERVICES, "13-fw": SERVICES, "15.1-lan": FEW, "15.2-ovs-gre": SERVICES,
    "ovs-mesh": FEW, "ovn-cluster": FEW,
}  # fmt: skip
PATIENCE = 1.5  # seconds for a probe
SETTLE = 20.0  # seconds until traces and packets must agree: neighbours and tunnels take theirs
AT_ONCE = 16
# Until a tunnel has come up.
PASSING = frozenset({"ovs-unknown", "tunnel-beginning", "tunnel-down"})


@dataclass(frozen=True)
class Case:
    source: Node
    target: Node
    address: str
    proto: str
    port: int
    nic: str = ""  # by which interface a host without an engine comes

    @property
    def service(self) -> str:
        return f"{self.proto}/{self.port}" if self.port else self.proto

    def __str__(self) -> str:
        return f"{self.source.name} -> {self.address} {self.service}"

    def ask(self) -> Seen:
        return probe(self.source.netns, self.proto, self.address, self.port, PATIENCE)


def cases(lab: RunningLab, facts: Facts) -> Iterator[Case]:
    """Yield every pair of which one end has an engine, and published ports from all sources."""
    named = {h.name for h in lab.lab.hosts if h.daemon is not None}
    services = LABS[Path(lab.lab.folder).name]
    nodes = facts.nodes()
    for source in nodes:
        for target in nodes:
            if source.name == target.name or not {source.host, target.host} & named:
                continue
            try:
                address = facts.between(source, target)
            except NotFound:
                continue  # a host of the course without an address of its own
            for proto, port in services:
                yield Case(source, target, address, proto, port)
        for published in {p for n in nodes for p in n.ports}:
            outside, _, inside = published.partition("->")
            host = next(n for n in nodes if published in n.ports).host
            number = int(outside.rpartition(":")[2])
            address = facts.between(source, facts.node(host))
            if source.host in named or host in named:
                yield Case(source, facts.node(host), address, inside.partition("/")[2], number)


def contradiction(found: Trace, seen: Seen) -> str:
    """Return why a verdict and a probe's result contradict each other; "" if they do not."""
    if seen.why == "no route here" and found.request[0].what == "wire":
        return ""  # a machine without an engine did not even send it: a trace begins with us
    match found.verdict:
        case "DELIVERED":
            fits = seen.verdict == "open"
        case "REFUSED":
            fits = seen.verdict == "closed"
        case "UNROUTED":
            fits = seen.verdict in {"unrouted", "filtered"}
        case "BLOCKED" | "LOST":
            fits = not seen.reached
        case _:
            fits = True
    return "" if fits else f"{found.verdict} ({found.code}: {found.words}), but {seen}"


def agree(lab: RunningLab, case: Case, facts: Facts | None = None) -> tuple[Trace, str]:
    """Return the trace, and how it contradicts the packets after several attempts."""
    deadline = time.monotonic() + SETTLE
    while True:
        found = traced(lab, case, facts)
        wrong = contradiction(found, case.ask())
        settled = not wrong and found.code not in PASSING
        if settled or time.monotonic() > deadline:
            return found, wrong


def traced(lab: RunningLab, case: Case, facts: Facts | None = None) -> Trace:
    by = f"@{case.nic}" if case.nic else ""
    return lab.trace(case.source.name + by, case.address, case.service, facts)


def settled(lab: RunningLab, case: Case, found: Trace) -> Trace:
    """Wait until both ends of a new tunnel have received from each other."""
    deadline = time.monotonic() + 60
    while found.code == "tunnel-unwatched" and time.monotonic() < deadline:
        time.sleep(0.5)
        found = traced(lab, case)
    return found


def excused(found: Trace, case: Case, lab: RunningLab) -> bool:
    """Return whether the way goes to, or through, a machine without an engine."""
    plain = {h.name for h in lab.lab.hosts if h.daemon is None}
    ends = {case.source.host, case.target.host}
    return found.code == "beyond" and bool(plain & (ends | {"gateway"}))


@pytest.mark.parametrize("folder", LABS)
def test_a_trace_never_contradicts_the_packets(folder: str) -> None:
    with running(CLONE / "labs" / folder, "tr") as lab:
        facts = Facts(lab.lab, lab.places)  # nothing comes or goes
        every = list(cases(lab, facts))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(lambda case: agree(lab, case, facts), every))
        wrong = [f"{c}: {why}" for c, (_, why) in zip(every, found, strict=True) if why]
        assert not wrong, "\n".join(wrong)
        unknown = [
            f"{c}: {t.code}: {t.words}"
            for c, t in ((c, settled(lab, c, t)) for c, (t, _) in zip(every, found, strict=True))
            if t.verdict == "UNDETERMINED" and not excused(t, c, lab)
        ]
        assert not unknown, "\n".join(unknown)
        verdicts = {t.verdict for t, _ in found}
        assert {"DELIVERED", "REFUSED"} & verdicts, "nothing was put to the proof"


def test_a_trace_over_ovn_names_the_switch_the_ports_and_the_rule_that_drops() -> None:
    with running(CLONE / "labs" / "ovn-cluster", "tr") as lab:
        facts = Facts(lab.lab, lab.places)
        job, web, db = (facts.node(name) for name in ("job", "web", "db"))
        case = Case(job, web, facts.between(job, web), "tcp", 80)
        found, wrong = agree(lab, case, facts)
        assert not wrong
        named = [s.why for s in found.request if s.what == "logical"]
        assert [step.host for step in found.request if step.what == "logical"] == ["h3", "h1"]
        assert all(line.startswith("logical switch netkit-") for line in named)
        assert len({line.partition(": ")[2] for line in named}) == 1  # the same ports on both

        rule = lab.netkit("h1", "fw", "drop", "--src", "job", "--to", "web").split()[0]
        try:
            found, wrong = agree(lab, case, facts)
            assert not wrong
            assert (found.verdict, found.code) == ("BLOCKED", "access-rule")
            assert f"by rule {rule} of netkit fw, ACL " in found.words
            assert found.fix == f"netkit fw rm {rule}"
            other, wrong = agree(lab, replace(case, source=db), facts)
            assert not wrong
            assert other.code == "delivered"
        finally:
            lab.netkit("h1", "fw", "rm", rule)

        # Nothing probes a tunnel of OVN's: what it sends is followed through both hosts' rules.
        drop = ("-p", "udp", "--dport", "6081", "-s", "10.0.0.3", "-j", "DROP")
        # In a table of its own: netkit's rules in FORWARD come first again within a moment.
        lab.h1.run("iptables", "-t", "mangle", "-A", "FORWARD", *drop)
        try:
            found, wrong = agree(lab, case, facts)
            assert not wrong
            assert (found.verdict, found.code) == ("BLOCKED", "fw-drop")
            assert found.words.startswith("the outer packet, udp/6081 to 10.0.0.1: ")
        finally:
            lab.h1.run("iptables", "-t", "mangle", "-D", "FORWARD", *drop)


# -- faults, each with a reason code of its own ------------------------------------------


FAULTY = """
underlay: {lan: {}}
hosts:
  h1:
    interfaces:
      eth0: {segment: lan, address: 10.0.0.1/24}
    networks:
      lane: {subnet: 10.9.0.0/24, options: {com.docker.network.bridge.enable_icc: "false"}}
    containers:
      web: {command: httpd -f -h /www, ports: ["8080:80", "127.0.0.1:8081:80"]}
      client: {}
      far: {networks: [lane]}
  outside:
    daemon: false
    interfaces:
      eth0: {segment: lan, address: 10.0.0.2/24}
    routes: ["10.9.0.0/24 via 10.0.0.1"]
"""
IN = "nsenter --net={netns} "  # of the container
SERVICE = "echo $$ >/pid; exec httpd -f -p 99 -h /www"
UP = IN + "sh -c 'ip link set eth0 up; ip route add default via 172.17.0.1'"
PORT = "{port}"  # the host's end of its wire


@dataclass(frozen=True)
class Fault:
    """What is done on h1 to `whom`, and what a trace then says; `undone` by another command.

    Unless `good`, the packet does not arrive without it either.
    """

    code: str
    done: str
    undone: str
    whom: str = "web"
    source: str = "client"
    target: str = "web"
    service: str = "tcp/80"
    good: bool = True

    @property
    def repaired(self) -> bool:
        """Return whether netkit repairs it by itself, so that it must be repeated to be seen."""
        return self.code in {"link-down", "no-route", "no-hairpin"}


def insisted(lab: RunningLab, command: str) -> int:
    """Start a process on h1 that repeats it until it is killed; return its pid."""
    loop = f"while :; do {command}; sleep 0.02; done"
    return int(lab.h1.run("sh", "-c", f"({loop}) >/dev/null 2>&1 </dev/null & echo $!"))


FAULTS = (
    Fault("link-down", IN + "ip link set eth0 down", UP),
    Fault("link-down", f"ip link set {PORT} down", f"ip link set {PORT} up"),
    Fault("link-down", IN + "ip link set eth0 down", UP, whom="client"),
    Fault("no-route", IN + "ip route del default", IN + "ip route add default via 172.17.0.1",
          whom="client", target="10.0.0.1:8080", service="tcp"),
    Fault("no-route", IN + "ip route del default", IN + "ip route add default via 172.17.0.1",
          source="outside", target="10.0.0.1:8080", service="tcp"),
    Fault("fw-drop", "iptables -I DOCKER-USER -p tcp --dport 80 -j DROP",
          "iptables -D DOCKER-USER -p tcp --dport 80 -j DROP"),
    Fault("fw-reject", "iptables -I DOCKER-USER -p tcp --dport 80 -j REJECT",
          "iptables -D DOCKER-USER -p tcp --dport 80 -j REJECT"),
    Fault("fw-drop", IN + "iptables -A INPUT -p tcp --dport 80 -j DROP",
          IN + "iptables -F INPUT"),
    Fault("fw-drop", IN + "iptables -A OUTPUT -p tcp --sport 80 -j DROP",
          IN + "iptables -F OUTPUT"),
    Fault("port-isolated", "bridge link set dev {port} isolated on; "
          "bridge link set dev {other} isolated on",
          "bridge link set dev {port} isolated off; bridge link set dev {other} isolated off"),
    Fault("port-blocking", f"bridge link set dev {PORT} state 0",
          f"bridge link set dev {PORT} state 3"),
    Fault("wrong-mac", IN + "ip neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0",
          IN + "ip neigh del {address} dev eth0", whom="client"),
    Fault("echo-ignored", IN + "sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
          IN + "sysctl -qw net.ipv4.icmp_echo_ignore_all=0", service="icmp"),
    Fault("no-forwarding", "sysctl -qw net.ipv4.conf.eth0.forwarding=0",
          "sysctl -qw net.ipv4.conf.eth0.forwarding=1", source="outside", target="10.0.0.1:8080",
          service="tcp"),
    Fault("rp-filter", "sysctl -qw net.ipv4.conf.eth0.rp_filter=1; "
          "ip route add 10.0.0.2/32 dev docker0",
          "sysctl -qw net.ipv4.conf.eth0.rp_filter=0; ip route del 10.0.0.2/32",
          source="outside@eth0", target="10.0.0.1", service="icmp"),
    Fault("hooked", f"tc qdisc add dev {PORT} clsact; "
          f"tc filter add dev {PORT} ingress protocol ip u32 match u32 0 0 classid 1:1",
          f"tc qdisc del dev {PORT} clsact"),
    Fault("frame-rules", "nft add table bridge t; nft add chain bridge t c "
          "{{ type filter hook forward priority 0 \\; }}; nft add rule bridge t c counter drop",
          "nft delete table bridge t"),
    Fault("source-guard", IN + "ip link set eth0 address 02:00:00:00:00:77", "true",
          whom="far", source="far", target="10.9.0.1", service="icmp"),
    Fault("martian", "sysctl -qw net.ipv4.conf.docker0.route_localnet=0",
          "sysctl -qw net.ipv4.conf.docker0.route_localnet=1",
          source="h1", target="127.0.0.1:8081", service="tcp"),
    Fault("no-hairpin", f"bridge link set dev {PORT} hairpin off",
          f"bridge link set dev {PORT} hairpin on",
          source="web", target="10.0.0.1:8080", service="tcp"),
    Fault("fdb-elsewhere", "bridge fdb replace {mac} dev {other} master static sticky",
          "bridge fdb del {mac} dev {other} master"),
    Fault("rule-unknown", "iptables -I DOCKER-USER -m ttl --ttl-lt 2 -j DROP",
          "iptables -D DOCKER-USER -m ttl --ttl-lt 2 -j DROP"),
    Fault("policy-routing", "ip rule add to 10.0.0.2 lookup 77; "
          "ip route add 10.0.0.2/32 dev docker0 table 77",
          "ip rule del to 10.0.0.2 lookup 77; ip route flush table 77",
          source="outside", target="10.0.0.1:8080", service="tcp"),
    Fault("too-long", IN + "sysctl -qw net.ipv4.ip_forward=1; "
          "ip route add 198.51.100.0/24 via {address}",
          IN + "sysctl -qw net.ipv4.ip_forward=0; ip route del 198.51.100.0/24",
          target="198.51.100.7", good=False),
    Fault("not-published", "true", "true", source="outside", target="far"),
    Fault("no-neighbour", "true", "true", target="172.17.0.99"),
    Fault("not-listening", "true", "true", service="tcp/81"),
)  # fmt: skip


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    folder = tmp_path_factory.mktemp("labs") / f"tf-{secrets.token_hex(3)}"
    folder.mkdir()
    (folder / "lab.yml").write_text(FAULTY)
    lab = RunningLab(str(folder))
    try:
        lab.up()
        yield lab
    finally:
        lab.down()
        assert traces(lab.name) == []


def ends(lab: RunningLab, name: str) -> str:
    """Return the host's end of a container's veth pair."""
    (line,) = (
        line for line in lab.h1.run("ip", "-o", "link").splitlines()
        if f"if{index(lab[name].netns)}:" in line.split()[1]
    )  # fmt: skip
    return line.split()[1].partition("@")[0]


def mac(lab: RunningLab, name: str) -> str:
    return lab[name].run("cat", "/sys/class/net/eth0/address").strip()


def index(ns: str) -> int:
    with netns.inside(ns):
        return socket.if_nametoindex("eth0")


# what nothing of netkit's changes, and no command that is known; or a service has to be started
WITHOUT_ADVICE = frozenset({
    "hooked", "frame-rules", "no-neighbour", "not-listening", "rule-unknown", "policy-routing",
    "too-long",
})  # fmt: skip


def follow_advice(lab: RunningLab, case: Case, found: Trace) -> Trace:
    """Return the trace after each fix that it names was run on h1."""
    for _ in range(4):  # one fault may hide another, as a link that was down had no routes
        if found.verdict == "DELIVERED" or found.code in WITHOUT_ADVICE:
            break
        assert found.fix, found
        argv = shlex.split(found.fix, comments=True)
        if argv[0] == "netkit":
            lab.netkit("h1", *argv[1:])
        else:
            lab.h1.run("sh", "-c", f"{{ {found.fix}\n}} || true")  # netkit may have been faster
        found, _ = agree(lab, case)
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.code}: {f.done}"[:60])
def test_a_fault_has_a_reason_code_of_its_own(faulty: RunningLab, fault: Fault) -> None:
    lab = faulty
    words = {
        "netns": lab[fault.whom].netns, "port": ends(lab, fault.whom),
        "other": ends(lab, "client"), "address": lab.web.ip,
        "mac": mac(lab, fault.whom),
    }  # fmt: skip
    facts = Facts(lab.lab, lab.places)
    source, _, nic = fault.source.partition("@")
    proto, _, port = fault.service.partition("/")
    address, _, published = fault.target.partition(":")
    if address in facts:
        address = facts.between(facts.node(source), facts.node(address))
    number = int(published or port or 0)
    case = Case(facts.node(source), facts.node("h1"), address, proto, number, nic)
    if fault.done != "true" and fault.good:
        fine, wrong = agree(lab, case)
        assert (fine.verdict, wrong) == ("DELIVERED", ""), fine
    done = fault.done.format_map(words)
    insists = insisted(lab, done) if fault.repaired else 0
    if not insists:
        lab.h1.run("sh", "-c", done)
    try:
        deadline = time.monotonic() + SETTLE
        while True:
            found = traced(lab, case)
            wrong = contradiction(found, case.ask()) if found.code == fault.code else found.code
            if not wrong or time.monotonic() > deadline:
                break  # at first netkit repairs it between the trace and the packet
            time.sleep(0.2)
        assert found.code == fault.code, found
        assert not wrong, found
        if insists:
            os.kill(insists, signal.SIGKILL)
            insists = 0
        cured = follow_advice(lab, case, found)
        assert cured.verdict == "DELIVERED" or cured.code in WITHOUT_ADVICE, cured
        assert not contradiction(cured, case.ask()), cured
    finally:
        if insists:
            os.kill(insists, signal.SIGKILL)
        lab.h1.run("sh", "-c", f"({fault.undone.format_map(words)}) || true")
        for rule in lab.netkit("h1", "fw", "ls", "-q").split():
            lab.netkit("h1", "fw", "rm", rule)
    if fault.done != "true" and fault.good:
        fine, wrong = agree(lab, case)
        assert (fine.verdict, wrong) == ("DELIVERED", ""), fine


def test_a_stopped_service_and_a_stopped_container_are_distinguished(faulty: RunningLab) -> None:
    lab = faulty
    lab.web.netkit("exec", "-d", "web", "sh", "-c", SERVICE)
    deadline = time.monotonic() + SETTLE
    while lab.trace("client", "web", "tcp/99").code != "delivered":
        assert time.monotonic() < deadline
    lab.web.run("sh", "-c", "kill $(cat /pid)")
    found = lab.trace("client", "web", "tcp/99")
    assert (found.verdict, found.code) == ("REFUSED", "not-listening")
    lab.web.netkit("stop", "-t", "0", "web")
    try:
        found = lab.trace("client", "web", "tcp/80") if lab.web.node.addresses else None
        argv = ("net", "trace", "client", "web", "tcp/80", "--format", "json")
        answer = json.loads(lab.netkit("h1", *argv, check=False))
        assert (answer["verdict"], answer["code"]) == ("UNROUTED", "container-not-running")
        assert answer["fix"] == "netkit start web"
        assert found is None or found.verdict == "UNROUTED"
    finally:
        lab.netkit("h1", "start", "web")


def test_a_tunnel_without_its_far_end_is_down_and_unasked_it_is_beyond() -> None:
    with running(CLONE / "labs" / "15.2-ovs-gre", "tr") as lab:
        deadline = time.monotonic() + SETTLE
        while (found := lab.trace("docker1", "docker2", "tcp/80")).verdict != "DELIVERED":
            assert time.monotonic() < deadline, found
            assert found.verdict == "UNDETERMINED", found  # the tunnel may come up any moment
            time.sleep(0.3)
        alone = ("net", "trace", "docker1", lab.docker2.ip, "tcp/80")
        assert "UNDETERMINED (beyond)" in lab.netkit("host1", *alone, check=False)
        address = lab.docker2.ip
        flows_of_another_tool(lab, address)
        begun_anew(lab, address)
        lab.host2.run("ip", "link", "set", "eth0", "down")
        deadline = time.monotonic() + SETTLE
        while (found := lab.trace("docker1", address, "tcp/80")).code != "tunnel-down":
            assert time.monotonic() < deadline, found
            time.sleep(0.3)
        assert found.verdict == "LOST"
        assert not probe(lab.docker1.netns, "tcp", address, 80).reached


def begun_anew(lab: RunningLab, address: str) -> None:
    """Both ends of the tunnel begin to probe each other; frames pass all the while."""
    hosts = (lab.host1, lab.host2)
    search = ("ovs-vsctl", "--bare", "--columns=name", "find", "interface", "type=gre")
    names = {host.name: host.run(*search).strip() for host in hosts}
    deadline, seen = time.monotonic() + SETTLE, 0
    while not seen:  # they take a second; a busy machine may miss it
        assert time.monotonic() < deadline
        for word in ("false", "true"):
            for host in hosts:
                host.run("ovs-vsctl", "set", "interface", names[host.name], f"bfd:enable={word}")
        while (found := lab.trace("docker1", address, "tcp/80")).verdict != "DELIVERED":
            assert time.monotonic() < deadline
            assert found.code == "tunnel-beginning", found
            seen += 1
    assert probe(lab.docker1.netns, "tcp", address, 80).reached


def flows_of_another_tool(lab: RunningLab, address: str) -> None:
    """A rule that drops, with a fix that removes it; and one that is not modelled."""
    flow = "table=0,priority=65000,tcp,tp_dst=80"
    lab.host1.run("ovs-ofctl", "add-flow", "obr0", f"{flow},actions=drop")
    found = lab.trace("docker1", address, "tcp/80")
    assert found.code == "ovs-drop"
    assert not probe(lab.docker1.netns, "tcp", address, 80, PATIENCE).reached
    lab.host1.run("sh", "-c", found.fix)
    assert lab.trace("docker1", address, "tcp/80").code == "delivered"
    assert probe(lab.docker1.netns, "tcp", address, 80).reached
    lab.host1.run("ovs-ofctl", "add-flow", "obr0", f"{flow},actions=mod_nw_tos:4,resubmit(,1)")
    found = lab.trace("docker1", address, "tcp/80")
    assert (found.code, found.fix) == ("ovs-unknown", "")
    lab.host1.run("ovs-ofctl", "--strict", "del-flows", "obr0", flow)
    for host, there, flow in (
        (lab.host1, lab.host2, "table=0,priority=65000,in_port=LOCAL,tcp,tp_dst=80"),
        (lab.host2, lab.host1, "table=0,priority=65000,in_port=70,tcp,tp_dst=80"),
    ):
        remote = f"options:remote_ip={there.ip}"
        host.run("ovs-vsctl", "add-port", "obr0", "byhand", "--", "set", "interface", "byhand",
                 "type=gre", remote, "options:key=77", "ofport_request=70")  # fmt: skip
        out = "70" if "LOCAL" in flow else "LOCAL"
        host.run("ovs-ofctl", "add-flow", "obr0", f"{flow},actions=output:{out}")
    found = lab.trace("docker1", address, "tcp/80")
    assert found.code == "tunnel-unwatched", found
    assert probe(lab.docker1.netns, "tcp", address, 80).reached
    for host in (lab.host1, lab.host2):
        host.run("ovs-ofctl", "del-flows", "obr0", "cookie=0/-1,tcp,tp_dst=80")
        host.run("ovs-vsctl", "del-port", "obr0", "byhand")


def test_a_failed_check_carries_what_a_trace_says(faulty: RunningLab) -> None:
    lab, rule = faulty, ("DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP")
    lab.h1.run("iptables", "-I", *rule)
    try:
        (result,) = lab.ask([parse("client -> web tcp/80 ok")], within=0.5)
    finally:
        lab.h1.run("iptables", "-D", *rule)
    assert result.standing == "fail"
    assert result.trace.startswith("BLOCKED (fw-drop): dropped in the host by rule 1 of filter")
    assert result.trace.endswith("fix: iptables-nft -t filter -D DOCKER-USER 1")
