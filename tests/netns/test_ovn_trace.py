"""What a trace over OVN says, compared with packets: real northd, controllers and switches."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from netkit.diagnose.choosing import Place
from netkit.diagnose.trace.join import Trace, question, trace
from netkit.diagnose.trace.leg import Ask, Leg
from netkit.errors import NotFound
from netkit.kernel import netns
from netkit.lab.ovn import CONTROLLER
from plugins.ovn import switch_name
from runtime.container.model import Container
from runtime.network.trace import TraceService
from tests.netns.ovn_hosts import Cloud, cloud
from tests.netns.ovs_hosts import OvsHost, reaches, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"),
]
ONE, NEAR, FAR = "10.70.0.11", "10.70.0.12", "10.70.0.13"
SETTLES = 30.0  # seconds
SILENT = 1.5  # seconds without an answer


class NoContainers:
    """Ends are asked for by address."""

    def find(self, ref: str) -> Container:
        raise NotFound(ref)

    def all(self) -> list[Container]:
        return []


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(2, tmp_path_factory.mktemp("ovn")) as made:
        one, two = made.hosts
        for h in made.hosts:
            h.create("wide", "10.70.0.0/24", driver="ovn")
        one.open("one", "wide", ONE)
        one.open("near", "wide", NEAR)
        two.open("far", "wide", FAR)
        for address in (NEAR, FAR):
            assert reaches(one.ns("one"), address)
        yield made


def engine(h: OvsHost) -> TraceService:
    places = {h.boxes[box].sandbox: h.ns(box) for box in h.boxes}
    backend: Callable[[], Mapping[str, object]] = dict
    # The host's part of it runs in the host's namespace.
    return TraceService(
        h.net, NoContainers(), policies=h.net, namespace=places.__getitem__,
        switches=h.kernel.switches, vswitchd=h.kernel.vswitchd, ovn=h.kernel.ovn, backend=backend,
        overlay=lambda _: {},
    )  # fmt: skip


class Inside:
    """The engine of a host: a process in its namespace, in the product."""

    def __init__(self, h: OvsHost) -> None:
        self._home, self._engine = h.home, engine(h)

    def leg(self, ask: Ask) -> Leg:
        with netns.inside(self._home):
            return self._engine.leg(ask)

    def locate(self, name: str) -> Place | None:
        try:
            return self._engine.locate(name)
        except NotFound:
            return None


def asked(pair: Cloud, target: str) -> Trace:
    engines = {h.name: Inside(h) for h in pair.hosts}
    return trace(engines, question(ONE, target))


def passes(pair: Cloud, target: str) -> bool:
    return reaches(pair.hosts[0].ns("one"), target, seconds=SILENT)


def agreed(pair: Cloud, target: str, *codes: str) -> Trace:
    """Wait until the trace has one of the codes; fail unless packets do what it says."""
    deadline = time.monotonic() + SETTLES
    while (found := asked(pair, target)).code not in codes and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found.code in codes, found
    assert passes(pair, target) is (found.code in PASSING), found
    return found


PASSING = ("delivered", "tunnel-unwatched")


@contextmanager
def acl(pair: Cloud, priority: int, match: str, action: str) -> Iterator[None]:
    """An ACL of an administrator's on the switch, for what goes to its ports."""
    switch = switch_name(pair.hosts[0].net._parts.registry.find("wide").config)
    name = f"theirs-{priority}"
    pair.central.nbctl(
        f"--name={name}", "acl-add", switch, "to-lport", str(priority), match, action
    )
    try:
        yield
    finally:
        pair.central.nbctl("acl-del", switch, "to-lport", str(priority), match)


def logical(found: Trace) -> list[str]:
    return [step.why for step in found.request if step.what == "logical"]


def test_what_is_delivered_names_the_switch_and_both_ports(pair: Cloud) -> None:
    for target, hosts in ((NEAR, 1), (FAR, 2)):
        found = agreed(pair, target, *PASSING)
        lines = logical(found)
        assert len(lines) == hosts
        assert all(line.startswith("logical switch netkit-") for line in lines)
        assert len(set(lines)) == 1, "the same ports on both hosts"


def test_an_acl_that_drops_is_named_on_both_hosts(pair: Cloud) -> None:
    with acl(pair, 1500, f"ip4.dst == {{{NEAR}, {FAR}}}", "drop"):
        for target in (NEAR, FAR):
            found = agreed(pair, target, "access-rule")
            assert "by ACL theirs-1500, of port netkit-" in found.words
            assert "del-flows" not in found.fix
    for target in (NEAR, FAR):
        agreed(pair, target, *PASSING)


def test_stateful_acls_are_never_said_to_drop_the_answer_that_they_let_pass(pair: Cloud) -> None:
    allowed = acl(pair, 900, f"ip4.src == {ONE}", "allow-related")
    with allowed, acl(pair, 100, "ip4", "drop"):
        for target in (NEAR, FAR):
            found = agreed_stateful(pair, target)
            assert any("ACL theirs-900 lets it pass" in line for line in logical(found))
            assert found.leg == "answer", "the request is followed through both zones"
            assert "of a connection that is tracked it passes" in found.words
    with (
        acl(pair, 1600, "ip4.src == 10.70.0.0/24", "allow-related"),
        acl(pair, 1700, f"ip4.dst == {NEAR}", "drop"),
    ):
        assert "theirs-1700" in agreed(pair, NEAR, "access-rule").words
        agreed(pair, FAR, *PASSING)


def agreed_stateful(pair: Cloud, target: str) -> Trace:
    """Delivered, but whether the answer comes back depends on connection tracking."""
    deadline = time.monotonic() + SETTLES
    while (found := asked(pair, target)).code != "ovs-unknown" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found.verdict == "UNDETERMINED", found
    assert passes(pair, target)
    return found


def test_what_port_security_drops_names_the_port(pair: Cloud) -> None:
    one = pair.hosts[0]
    own = one.boxes["one"].mac
    run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:77", at=one.ns("one"))
    try:
        found = agreed(pair, NEAR, "source-guard")
        assert f"port security of port {port(one, 'one')}: it sends from another" in found.words
    finally:
        run("ip", "link", "set", "eth0", "address", own, at=one.ns("one"))
    agreed(pair, NEAR, "delivered")


def port(h: OvsHost, box: str) -> str:
    switch = switch_name(h.net._parts.registry.find("wide").config)
    return f"{switch}-{h.boxes[box].id[:12]}"


def test_with_a_dead_controller_a_trace_says_what_its_stale_flows_do(pair: Cloud) -> None:
    controller = pair.controllers[0]
    controller.kill(CONTROLLER)
    try:
        with acl(pair, 1500, f"ip4.dst == {NEAR}", "drop"):
            time.sleep(1)  # northd has it, the switch does not
            assert agreed(pair, NEAR, "delivered").code == "delivered"
            controller.start()
            assert "theirs-1500" in agreed(pair, NEAR, "access-rule").words
    finally:
        controller.start()
    agreed(pair, NEAR, "delivered")


def test_a_port_that_no_host_has_is_not_delivered_to(pair: Cloud) -> None:
    switch = switch_name(pair.hosts[0].net._parts.registry.find("wide").config)
    pair.central.nbctl(
        "lsp-add", switch, "nowhere", "--", "lsp-set-addresses", "nowhere",
        "02:00:00:00:00:99 10.70.0.99",
    )  # fmt: skip
    try:
        found = agreed(pair, "10.70.0.99", "ovs-drop")
        assert "logical port nowhere is bound to no host" in found.words
    finally:
        pair.central.nbctl("lsp-del", "nowhere")
