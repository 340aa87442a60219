"""`net trace` and `fw explain` among rules of other tools: held to packets, and each fix is run."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import pytest

from netkit.cli.trace import OnHost
from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine as Api
from netkit.diagnose.trace.join import question, trace
from netkit.lab.probe import Seen, probe
from tests.engine import wire
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.test_networks import WEB

pytestmark = netkit_only("dockerd has no `net trace`")
BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")
PORT = 8317
PATIENCE = 0.7  # seconds for a probe
SETTLE = 4.0  # seconds in which netkit moves its rules in front of foreign ones
PLACE = re.compile(r"(?:-t (\w+) )?-[INP] (\w+)|hook (\w+) priority (\S+);")
FIXES = 4  # rules that may be in a packet's way one after the other
TO = f"-p tcp --dport {PORT}"
TABLE = "nft add table {0}; nft 'add chain {0} c {{ type {1} hook {2} priority {3}; {4}}}'; "


def native(table: str, kind: str, hook: str, priority: int, rule: str, policy: str = "") -> str:
    made = TABLE.format(table, kind, hook, priority, f"policy {policy}; " if policy else "")
    return made + (f"nft 'add rule {table} c {rule}'" if rule else "true")


@dataclass(frozen=True)
class Case:
    """`done` and `undone` are for the host's shell; IPT is iptables of the back end's variant.

    `named` is in the verdict's words, where the packet does not arrive as it should.
    """

    done: str
    named: str
    undone: str
    source: str = wire.NEIGHBOUR
    target: str = wire.HOST
    port: int = PORT
    code: str = ""  # of the verdict; "" where rules of netkit's may already be before it

    def __str__(self) -> str:
        return self.done.partition("; nft ")[2] or self.done


def typed(rule: str, named: str = "", **more: Any) -> Case:
    """Return the case of an iptables rule that is put first."""
    take_back = " ".join("-D" if word == "-I" else word for word in rule.split())
    return Case(f"IPT {rule}", named or rule.partition(" -j ")[2], f"IPT {take_back}", **more)


def table(where: str, kind: str, hook: str, priority: int, rule: str, **more: Any) -> Case:
    done = native(where, kind, hook, priority, rule, more.pop("policy", ""))
    end = f"nft delete chain {where} c" if where == "ip nat" else f"nft delete table {where}"
    return Case(done, more.pop("named", rule), end, **more)


CASES = (
    typed(f"-t nat -I PREROUTING {TO} -j ACCEPT"),
    typed(f"-t nat -I PREROUTING {TO} -j RETURN"),
    typed(f"-t nat -I PREROUTING {TO} -j REDIRECT --to-ports 9"),
    typed(f"-t nat -I PREROUTING {TO} -j REDIRECT"),
    typed(f"-t nat -I PREROUTING {TO} -j DNAT --to-destination MATE:80"),
    typed(f"-t nat -I PREROUTING {TO} -j DNAT --to-destination {wire.NEIGHBOUR}:9"),
    typed(f"-t nat -I PREROUTING {TO} -j DNAT --to-destination 192.0.2.9:80"),
    Case(
        f"IPT -t nat -N OTHERS; IPT -t nat -I PREROUTING -j OTHERS; "
        f"IPT -t nat -A OTHERS {TO} -j ACCEPT", "-A OTHERS",
        "IPT -t nat -D PREROUTING -j OTHERS; IPT -t nat -F OTHERS; IPT -t nat -X OTHERS",
    ),
    typed(f"-t nat -I OUTPUT {TO} -j ACCEPT", source="host"),
    typed(f"-t raw -I PREROUTING {TO} -j CT --notrack"),
    typed("-t raw -I PREROUTING -p tcp --sport 80 -j CT --notrack", code="answer-astray"),
    typed(f"-t raw -I PREROUTING {TO} -j DROP"),
    typed(f"-t mangle -I PREROUTING {TO} -j DROP"),
    typed("-t mangle -I FORWARD -p tcp --sport 80 -j DROP"),  # answers
    typed("-I FORWARD -p tcp --dport 80 -j DROP"),
    typed("-I FORWARD -p tcp --dport 80 -j REJECT"),
    Case("IPT -P FORWARD DROP", "the policy of filter FORWARD", "IPT -P FORWARD ACCEPT"),
    typed("-I INPUT -p tcp --dport 7070 -j DROP", port=7070),
    Case("IPT -P INPUT DROP", "the policy of filter INPUT", "IPT -P INPUT ACCEPT", port=7070),
    Case("IPT -P OUTPUT DROP", "the policy of filter OUTPUT", "IPT -P OUTPUT ACCEPT", port=7070),
    table("inet others", "filter", "forward", -10, "tcp dport 80 drop"),
    table("inet others", "filter", "forward", 10, "tcp sport 80 reject"),
    table("inet others", "filter", "prerouting", -300, f"tcp dport {PORT} notrack"),
    table("inet others", "filter", "input", 5, "", policy="drop",
          named="the policy of inet others c", port=7070),
    table("ip others", "nat", "prerouting", -110, f"tcp dport {PORT} redirect to :9"),
    table("ip others", "nat", "prerouting", -110, f"tcp dport {PORT} dnat to MATE:80"),
    table("ip others", "nat", "prerouting", -110, f"tcp dport {PORT} accept"),  # does no harm
    table("ip others", "nat", "prerouting", -90, f"tcp dport {PORT} redirect to :9"),  # too late
    table("ip nat", "nat", "prerouting", -110, f"tcp dport {PORT} redirect to :9"),
)  # fmt: skip


@dataclass
class Host:
    engine: Engine
    tool: str
    mate: str

    @cached_property
    def api(self) -> Api:
        return Api(parse_host(self.engine.host, None))

    def sh(self, script: str, *, check: bool = True) -> None:
        words = script.replace("IPT", f"{self.tool} -w").replace("MATE", self.mate)
        done = wire.run(self.engine.netns, "sh", "-c", words)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"

    def fix(self, line: str) -> None:
        """Run the fix as an administrator would type it."""
        words = shlex.split(line, comments=True)
        if words[0] == "netkit":
            self.engine.netkit(*words[1:])
        else:
            self.sh(line)

    def traced(self, source: str, target: str, service: str) -> dict[str, Any]:
        found = trace({"here": OnHost(self.api)}, question(source, target, service))
        return dict(msgspec.to_builtins(found))

    def explained(self, source: str, target: str, port: str) -> dict[str, Any]:
        asked = {"from": source, "to": target, "port": port}
        return dict(self.api.get("/netkit/firewall/explain", asked)["Explanation"])

    def ask(self, case: Case) -> Seen:
        at = self.engine.wire.neighbour if case.source == wire.NEIGHBOUR else self.engine.netns
        return probe(f"/run/netns/{at}", "tcp", case.target, case.port, PATIENCE)


def each() -> Iterator[Any]:
    """List all cases for the first back end, for the rest one for each place that differs."""
    for backend in BACKENDS:
        places: set[tuple[str, ...]] = set()
        for case in CASES:
            place = tuple(PLACE.findall(case.done)[0])
            if backend != BACKENDS[0] and place in places:
                continue
            places.add(place)
            by_nft, nat = case.undone.startswith("nft"), "-t nat" in case.done
            alike = (by_nft and backend == "iptables-legacy") or (nat and backend == "nftables")
            if alike and "-j REDIRECT" not in case.done:
                continue
            yield pytest.param(backend, case, id=f"{backend}: {case}")


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with alone(f"--firewall-backend={request.param}") as engine:
        engine.up("-p", f"{PORT}:80", *WEB, name="web")
        mate = engine.sleeper(name="mate")
        legacy = request.param == "iptables-legacy"
        tool = "iptables-legacy" if legacy else "iptables-nft"
        service = wire.Echo(engine.netns, "0.0.0.0", 7070)
        try:
            yield Host(engine, tool, engine.address(mate))
        finally:
            service.close()


def contradicts(found: dict[str, Any], seen: Seen) -> bool:
    match found["verdict"]:
        case "DELIVERED":
            return seen.verdict != "open"
        case "REFUSED":
            return seen.verdict != "closed"
        case "BLOCKED" | "LOST" | "UNROUTED":
            return seen.verdict == "open"
    return False


@pytest.mark.parametrize(("host", "case"), list(each()), indirect=["host"])
def test_the_rule_that_decides_is_named_and_the_fix_lets_the_packet_through(
    host: Host, case: Case
) -> None:
    question = (case.source, f"{case.target}:{case.port}", "tcp")
    assert host.traced(*question)["code"] == "delivered"
    host.sh(case.done)
    try:
        found = _agreed(host, case)
        for _ in range(FIXES):
            if found["verdict"] == "DELIVERED" and not _redirected(found):
                break
            if "netkit fw repair" in found["fix"]:
                assert host.engine.netkit("fw", "check", check=False).returncode == 1
            assert case.named.replace("MATE", host.mate) in found["words"], found
            assert case.code in {"", found["code"]}, found
            assert found["fix"], found
            host.fix(found["fix"])
            found = host.traced(*question)
        assert found["verdict"] == "DELIVERED", found
        assert host.ask(case).verdict == "open"
    finally:
        host.sh(case.undone.replace(";", " || true;") + " || true", check=False)


def _agreed(host: Host, case: Case) -> dict[str, Any]:
    """Return the trace once it agrees with fw explain and the packet; netkit may move its rules."""
    deadline = time.monotonic() + SETTLE
    while True:
        found, seen = host.traced(case.source, f"{case.target}:{case.port}", "tcp"), host.ask(case)
        wrong = f"{found} but {seen}" if contradicts(found, seen) else ""
        wrong = wrong or _explain_differs(host, case, seen)
        if not wrong:
            return found
        assert time.monotonic() < deadline, wrong


def _redirected(found: dict[str, Any]) -> bool:
    """Return whether it arrives elsewhere than at the container that publishes the port."""
    return any("publishes it" in note for note in found["notes"])


def _explain_differs(host: Host, case: Case, seen: Seen) -> str:
    """Return how `fw explain` contradicts the packet; "" if they agree."""
    e = host.explained(case.source, case.target, f"{case.port}/tcp")
    delivered = e["verdict"] == "delivered"
    fits = {"open", "closed"} if delivered else {"filtered", "closed"}
    if e["to"].startswith("the outside") or seen.verdict in fits:
        return ""
    return f"{e['verdict']}: {e['words']}, but {seen}"
