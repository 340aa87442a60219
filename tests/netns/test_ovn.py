"""Networks of the ovn driver over two hosts: real databases, northd, controllers and switches."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netkit.errors import Conflict, InUse, KernelError, Unreachable
from netkit.kernel import netns
from netkit.kernel.ovn import logical
from netkit.kernel.ovn.databases import Northbound
from netkit.kernel.ovn.peers import OvnPeer
from netkit.lab.openvswitch import SWITCH
from netkit.lab.ovn import CONTROLLER, NORTHBOUND, NORTHD
from netkit.model.ovn import LogicalAcl, Match
from netkit.network.access import AccessRule
from netkit.reconcile.plan import Op
from netkit.reconcile.resync import ResyncResult
from netkit.spec import PortSpec
from plugins.ovn import gateway_name, switch_name
from tests.netns.ovn_hosts import Cloud, cloud
from tests.netns.ovs_hosts import OvsHost, listening, reaches, run, send

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"),
]
SUBNET = "10.70.0.0/24"
WEB = PortSpec(proto="tcp", container_port=80, host_first=8080)
EVERYBODY = ("0.0.0.0/0",)
BACK = 8.0  # seconds: ovs-vswitchd reads its database, its flows and the tunnel route come
HEALED = 30.0  # seconds, on a loaded machine; a second or two on an idle one


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(2, tmp_path_factory.mktemp("ovn")) as made:
        for h in made.hosts:
            h.create("wide", SUBNET, driver="ovn")
            h.open(f"c{h.number}", "wide", f"10.70.0.{10 + h.number}")
            h.guard.start()
        yield made


def eventually(check: Callable[[], bool], seconds: float = HEALED) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not within the time it may take"
        time.sleep(0.05)


def sandbox(h: OvsHost, box: str) -> str:
    return h.boxes[box].sandbox


def marked(pair: Cloud, table: str) -> list[str]:
    """The names of rows with the mark of a netkit."""
    return pair.rows(table, "external_ids:netkit!=none")


def test_containers_of_two_hosts_reach_each_other_and_their_hosts(pair: Cloud) -> None:
    one, two = pair.hosts
    assert reaches(one.ns("c1"), "10.70.0.12")
    assert reaches(two.ns("c2"), "10.70.0.11")
    for h in pair.hosts:
        assert reaches(h.ns(f"c{h.number}"), "10.70.0.1"), "its gateway"
        assert reaches(h.home, f"10.70.0.{10 + h.number}"), "from its host"


def test_a_network_lists_the_other_hosts_it_is_on_and_whether_tunnels_get_there(
    pair: Cloud,
) -> None:
    one, two = pair.hosts
    mark = f"netkit:1:{one.net.find('wide').id[:12]}"
    # "unknown": OVN probes no tunnel between ordinary chassis.
    assert one.kernel.ovn_peers.of_network(mark) == [OvnPeer("netkit-2", two.ip, "unknown")]
    assert one.kernel.ovn_peers.of_network("netkit:1:000000000000") == []

    run("ip", "route", "add", "unreachable", two.ip, at=one.home)
    try:
        (peer,) = one.kernel.ovn_peers.of_network(mark)
        assert peer.state == "an unreachable route"
    finally:
        run("ip", "route", "del", "unreachable", two.ip, at=one.home)

    box = sandbox(two, "c2")  # without a container there it is still on the network
    two.net.close(box)
    assert [p.name for p in one.kernel.ovn_peers.of_network(mark)] == ["netkit-2"]
    two.open("c2", "wide", "10.70.0.12")
    two.create("own", "10.71.0.0/24", driver="ovn")
    try:
        own = f"netkit:2:{two.net.find('own').id[:12]}"
        assert two.kernel.ovn_peers.of_network(own) == []
    finally:
        two.net.remove("own")


def test_the_first_packet_to_another_host_need_not_wait_for_an_address(pair: Cloud) -> None:
    """ovs-vswitchd drops a tunnelled packet whose next hop it does not know, to ask for it."""
    one, _ = pair.hosts
    one.vswitch.appctl("tnl/neigh/flush")
    one.kernel.observe([("ovsroute", "0.0.0.0/0")])  # as each look at the host does
    assert "169.254.250.1 " in one.vswitch.appctl("tnl/neigh/show")


def test_a_packet_of_the_networks_mtu_passes_and_no_larger_one(pair: Cloud) -> None:
    one, _ = pair.hosts
    assert run("cat", "/sys/class/net/eth0/mtu", at=one.ns("c1")).strip()
    link = run("ip", "-o", "link", "show", "eth0", at=one.ns("c1"))
    assert "mtu 1442 " in link
    assert reaches(one.ns("c1"), "10.70.0.12", size=1442 - 28)


def test_a_container_leaves_by_its_own_host_and_is_published_there(pair: Cloud) -> None:
    one, two = pair.hosts
    two.open("web", "wide", "10.70.0.20", ports=(WEB,))
    with netns.inside(two.ns("web")):
        server = socket.create_server(("10.70.0.20", 80))
    seen: list[str] = []

    def serve() -> None:
        for _ in range(2):
            peer, (host, _) = server.accept()
            seen.append(host)
            peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with netns.inside(one.home), socket.create_connection((two.ip, 8080), 20):
        pass
    with netns.inside(one.ns("c1")), socket.create_connection((two.ip, 8080), 20):
        pass
    thread.join(20)
    server.close()
    assert seen == [one.ip, one.ip], "the client's address, and that of a container's host"


def test_a_container_cannot_send_as_another(pair: Cloud) -> None:
    one, two = pair.hosts
    own, other = one.boxes["c1"].mac, two.boxes["c2"].mac

    def frame(mac: str, ip: str, word: bytes) -> bytes:
        return bytes(Ether(src=mac, dst=other) / IP(src=ip, dst="10.70.0.12") / UDP() / word)

    with listening(two.ns("c2"), "eth0") as seen:
        send(one.ns("c1"), frame(own, "10.70.0.99", b"another address"))
        send(one.ns("c1"), frame("02:00:00:00:00:77", "10.70.0.11", b"another MAC"))
        send(one.ns("c1"), frame(own, "10.70.0.11", b"its own"))
        eventually(lambda: any(b"its own" in f for f in seen.frames))
    assert not any(b"another" in f for f in seen.frames)


def test_rows_are_those_of_containers_and_go_with_them(pair: Cloud) -> None:
    one, _ = pair.hosts
    before = marked(pair, "Logical_Switch_Port")
    for h in pair.hosts:
        h.open("more", "wide", f"10.70.0.{30 + h.number}")
    new = {port_name_of(h, "more") for h in pair.hosts}
    assert {*marked(pair, "Logical_Switch_Port")} == {*before} | new
    requested = pair.central.nbctl("lsp-get-options", port_name_of(one, "more"))
    assert f"requested-chassis={one.kernel.ovn.chassis}" in requested
    for h in pair.hosts:
        h.net.close(sandbox(h, "more"))
    assert marked(pair, "Logical_Switch_Port") == before
    assert not [p for p in one.vswitch.vsctl("list-ports", "br-int").split()
                if p == f"nkv{one.boxes['more'].id}"[:15]]  # fmt: skip


def port_name_of(h: OvsHost, box: str) -> str:
    entry = h.net._parts.registry.find("wide")
    return f"{switch_name(entry.config)}-{h.boxes[box].id[:12]}"


def test_an_address_of_another_host_is_refused(pair: Cloud) -> None:
    one, _ = pair.hosts
    with pytest.raises(InUse, match=r"10\.70\.0\.12 is that of port .* of chassis netkit-2: give"):
        one.open("twin", "wide", "10.70.0.12")
    assert not [e for e in one.net.endpoints() if e.address.startswith("10.70.0.12/")]
    assert reaches(one.ns("c1"), "10.70.0.12")


def test_another_gateway_than_on_other_hosts_is_refused(pair: Cloud) -> None:
    one, two = pair.hosts
    one.create("odd", "10.71.0.0/24", driver="ovn")
    try:
        with pytest.raises(Conflict, match=r"10\.71\.0\.1 on 1 other hosts, not .*10\.71\.0\.7"):
            two.create("odd", "10.71.0.0/24", driver="ovn", gateway="10.71.0.7")
        assert "odd" not in {n.spec.name for n in two.net.all()}
    finally:
        one.net.remove("odd")


def test_a_switch_goes_with_the_last_host_that_is_on_it(pair: Cloud) -> None:
    one, two = pair.hosts
    count = len(pair.rows("Logical_Switch"))
    one.create("short", "10.72.0.0/24", driver="ovn")
    two.create("short", "10.72.0.0/24", driver="ovn")
    assert len(pair.rows("Logical_Switch")) == count + 1
    one.net.remove("short")
    assert len(pair.rows("Logical_Switch")) == count + 1
    two.net.remove("short")
    assert len(pair.rows("Logical_Switch")) == count


# -- access rules -------------------------------------------------------------------


def test_a_drop_rule_silences_a_running_connection_and_holds_for_it_alone(pair: Cloud) -> None:
    one, two = pair.hosts
    one.open("other", "wide", "10.70.0.40")
    for box in ("c1", "other"):
        assert reaches(one.ns(box), "10.70.0.12")
    rule = AccessRule(verdict="drop", target=sandbox(two, "c2"), sources=("10.70.0.11/32",))
    made = two.net.add_access_rule(rule)
    try:
        assert not reaches(one.ns("c1"), "10.70.0.12", seconds=2)
        assert reaches(one.ns("other"), "10.70.0.12")
        assert reaches(two.home, "10.70.0.12"), "its host is not kept out"
    finally:
        two.net.remove_access_rule(made.id)
    assert reaches(one.ns("c1"), "10.70.0.12")
    assert marked(pair, "ACL") == []


def test_every_field_of_a_rule_is_in_force(pair: Cloud) -> None:
    """OVN takes what it cannot parse; so each form of a match must have made a flow."""
    one, two = pair.hosts
    rules = [
        AccessRule(verdict="accept", target=sandbox(two, "c2"), proto="tcp", first=80, last=80,
                   sources=EVERYBODY),
        AccessRule(verdict="drop", target=sandbox(two, "c2"), proto="udp", first=1000, last=2000,
                   sources=("10.70.0.0/25", "192.0.2.1/32")),
        AccessRule(verdict="drop", target=sandbox(two, "c2"), proto="sctp", first=5, last=5,
                   sources=EVERYBODY),
        AccessRule(verdict="drop", target=sandbox(two, "c2"), proto="tcp",
                   sources=EVERYBODY),
        AccessRule(verdict="accept", target=sandbox(two, "c2"), sources=EVERYBODY),
    ]  # fmt: skip
    made = [two.net.add_access_rule(r) for r in rules]
    try:
        assert len(marked(pair, "ACL")) == len(rules) + 1  # and the one for the host
        assert tcp(one.ns("c1"), two.ns("c2"), 80)
        assert not tcp(one.ns("c1"), two.ns("c2"), 81)
        assert "error parsing" not in (two.vswitch.folder / f"{CONTROLLER}.log").read_text()
        assert two.net.unenforced() == []
    finally:
        for r in made:
            two.net.remove_access_rule(r.id)
    assert tcp(one.ns("c1"), two.ns("c2"), 81)


def test_no_packet_goes_through_connection_tracking(pair: Cloud) -> None:
    """That of the userspace datapath has ended ovs-vswitchd by an assertion, once."""
    one, two = pair.hosts
    rule = AccessRule(verdict="drop", target=sandbox(two, "c2"), proto="tcp", first=81, last=81,
                      sources=EVERYBODY)  # fmt: skip
    made = two.net.add_access_rule(rule)
    try:
        assert tcp(one.ns("c1"), two.ns("c2"), 80)
        assert not tcp(one.ns("c1"), two.ns("c2"), 81)
        for h in pair.hosts:
            assert h.vswitch.appctl("dpctl/dump-conntrack") == ""
    finally:
        two.net.remove_access_rule(made.id)


def test_packets_pass_again_soon_after_ovs_vswitchd_was_killed(pair: Cloud) -> None:
    one, _ = pair.hosts
    for _ in range(3):
        one.vswitch.kill(SWITCH)
        begin = time.monotonic()
        one.vswitch.start_switch()
        eventually(lambda: reaches(one.ns("c1"), "10.70.0.12", seconds=0))
        assert time.monotonic() - begin < BACK
        eventually(lambda: settled(one))


def tcp(client: str, server: str, port: int) -> bool:
    """Whether a connection to the container at 10.70.0.12 is made."""
    with netns.inside(server):
        listener = socket.create_server(("10.70.0.12", port))
    try:
        with netns.inside(client), socket.create_connection(("10.70.0.12", port), 4):
            return True
    except TimeoutError:
        return False
    finally:
        listener.close()


def test_a_rule_that_ovn_cannot_parse_is_not_in_force_and_is_taken_back(
    pair: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logical, "PATIENCE", 1.0)
    _, two = pair.hosts
    entry = two.net._parts.registry.find("wide")
    match = Match(outport=port_name_of(two, "c2"), sources=(IPv4Network("10.70.0.11"),))
    acl = LogicalAcl(
        name="bad", switch=switch_name(entry.config), priority=5, allow=False,
        text=f"{match} && tcp.dts == 81", owner=entry.config.owner,
    )  # fmt: skip
    with pytest.raises(KernelError, match="not in force: rule bad"):
        two.kernel.apply([Op(None, acl)])
    assert "bad" not in pair.rows("ACL")
    two.kernel.apply([Op(None, replace(acl, text=str(match)))])
    two.kernel.apply([Op(replace(acl, text=str(match)), None)])


@contextmanager
def unrepaired(h: OvsHost) -> Iterator[None]:
    """Its guard looks and repairs nothing meanwhile."""
    looked = threading.Event()

    def nothing() -> ResyncResult:
        looked.set()
        return ResyncResult((), False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(h.guard._repairs, "repair", nothing)
        h.guard._watch.wake()
        assert looked.wait(60)  # a repair that was under way has ended
        yield
    h.guard._watch.wake()


def test_a_rule_that_others_break_is_found_and_repaired(pair: Cloud) -> None:
    one, two = pair.hosts
    rule = AccessRule(verdict="drop", target=sandbox(two, "c2"), sources=("10.70.0.11/32",))
    made = two.net.add_access_rule(rule)
    try:
        (name,) = (n for n in marked(pair, "ACL") if made.id in n)
        uuid = pair.central.nbctl("--bare", "--columns=_uuid", "find", "ACL", f"name={name}")
        with unrepaired(two):
            pair.central.nbctl("set", "ACL", uuid.strip(), 'match="ip4 && tcp.dts == 81"')
            eventually(lambda: any(made.id in line for line in two.net.unenforced()))
        eventually(lambda: two.net.unenforced() == [])
        assert not reaches(one.ns("c1"), "10.70.0.12", seconds=2)
    finally:
        two.net.remove_access_rule(made.id)
    assert reaches(one.ns("c1"), "10.70.0.12")


# -- what others change, and what goes down ---------------------------------------------


def no_switch(pair: Cloud, h: OvsHost) -> None:
    pair.central.nbctl("ls-del", switch_name(h.net._parts.registry.find("wide").config))


def no_port(pair: Cloud, h: OvsHost) -> None:
    pair.central.nbctl("lsp-del", port_name_of(h, "c1"))


def another_host(pair: Cloud, h: OvsHost) -> None:
    name = port_name_of(h, "c1")
    pair.central.nbctl("set", "Logical_Switch_Port", name, "options:requested-chassis=netkit-2")


def no_interface(pair: Cloud, h: OvsHost) -> None:
    h.vswitch.vsctl("del-port", "br-int", f"nkv{h.boxes['c1'].id}"[:15])


def no_gateway(pair: Cloud, h: OvsHost) -> None:
    h.vswitch.vsctl("del-port", "br-int", gateway_name(h.net._parts.registry.find("wide").config))


def no_gateway_device(pair: Cloud, h: OvsHost) -> None:
    name = gateway_name(h.net._parts.registry.find("wide").config)
    run("ip", "link", "del", name, at=h.home)


def killed_vswitchd(pair: Cloud, h: OvsHost) -> None:
    h.vswitch.kill(SWITCH)
    h.vswitch.start_switch()


def killed_controller(pair: Cloud, h: OvsHost) -> None:
    pair.controllers[h.number - 1].kill(CONTROLLER)
    pair.controllers[h.number - 1].start()


@pytest.mark.parametrize(
    "harm",
    [no_switch, no_port, another_host, no_interface, no_gateway, no_gateway_device,
     killed_vswitchd, killed_controller],
)  # fmt: skip
def test_what_another_tool_does_is_repaired(
    pair: Cloud, harm: Callable[[Cloud, OvsHost], None]
) -> None:
    one, two = pair.hosts
    harm(pair, one)

    def works() -> bool:
        ends = ("10.70.0.12", "10.70.0.1")
        return all(reaches(one.ns("c1"), end, seconds=0) for end in ends)

    eventually(lambda: settled(one) and works())
    eventually(lambda: settled(two))


def settled(h: OvsHost) -> bool:
    """Whether nothing is to be repaired."""
    try:
        plan, busy = h.net.repair_drivers(lambda t: t.openvswitch, h.kernel.switched)
    except KernelError:
        return False
    return not plan and not busy


def test_without_the_northbound_database_nothing_is_made_and_what_is_there_goes_on(
    pair: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Northbound, "connect", 2.0)
    one, two = pair.hosts
    one.open("leaving", "wide", "10.70.0.50")
    ports = one.vswitch.vsctl("list-ports", "br-int")
    pair.central.kill(NORTHBOUND)
    try:
        begin = time.monotonic()
        with pytest.raises(Unreachable, match="northbound database does not answer at unix:"):
            one.open("late", "wide", "10.70.0.51")
        assert time.monotonic() - begin < 12
        assert one.vswitch.vsctl("list-ports", "br-int") == ports
        assert reaches(one.ns("c1"), "10.70.0.12")
        one.net.close(sandbox(one, "leaving"))
        assert not reaches(two.ns("c2"), "10.70.0.50", seconds=0)
    finally:
        pair.central.start_database(NORTHBOUND)
    gone = port_name_of(one, "leaving")
    eventually(lambda: gone not in marked(pair, "Logical_Switch_Port"))
    eventually(lambda: opened(one, "late", "10.70.0.51"))  # northd is back later
    assert reaches(two.ns("c2"), "10.70.0.51")


def test_a_silent_northbound_database_holds_up_no_other_network(pair: Cloud) -> None:
    one, two = pair.hosts
    one.create("plain", "10.72.0.0/24", driver="bridge")
    pid = pair.central.pid(NORTHBOUND)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        failed: list[BaseException] = []

        def late() -> None:
            try:
                one.open("unheard", "wide", "10.70.0.70")
            except KernelError as error:
                failed.append(error)

        begin = time.monotonic()
        waiting = threading.Thread(target=late)
        waiting.start()
        took = []
        for n in range(5):
            at = time.monotonic()
            one.open(f"plain{n}", "plain")
            took.append(time.monotonic() - at)
        assert waiting.is_alive()  # so these did not wait for the other one
        assert max(took) < 1.0
        waiting.join()
        assert time.monotonic() - begin < Northbound.connect + 3
        assert isinstance(failed[0], Unreachable)
        assert "does not answer at unix:" in str(failed[0])
        assert reaches(one.ns("c1"), "10.70.0.12")
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: opened(one, "unheard", "10.70.0.70"))
    assert reaches(two.ns("c2"), "10.70.0.70")


def opened(h: OvsHost, box: str, ip: str) -> bool:
    try:
        h.open(box, "wide", ip)
    except KernelError:
        return False
    return True


def test_without_northd_a_container_is_refused_and_leaves_nothing(
    pair: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logical, "PATIENCE", 1.0)
    one, two = pair.hosts
    rows = marked(pair, "Logical_Switch_Port")
    ports = one.vswitch.vsctl("list-ports", "br-int")
    pair.central.kill(NORTHD)
    try:
        with pytest.raises(KernelError, match=r"OVN does not connect .*ovn-northd"):
            one.open("unborn", "wide", "10.70.0.60")
        assert marked(pair, "Logical_Switch_Port") == rows
        assert one.vswitch.vsctl("list-ports", "br-int") == ports
    finally:
        pair.central.start_northd()
    eventually(lambda: opened(one, "unborn", "10.70.0.60"))
    assert reaches(two.ns("c2"), "10.70.0.60")


def test_a_controller_that_is_stopped_and_started_interrupts_nothing(pair: Cloud) -> None:
    one, _ = pair.hosts
    pair.controllers[0].kill(CONTROLLER, signal.SIGTERM)
    try:
        assert reaches(one.ns("c1"), "10.70.0.12", seconds=0)
    finally:
        pair.controllers[0].start()
