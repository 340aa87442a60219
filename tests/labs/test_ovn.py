"""The lab ovn-cluster: what goes on, and comes back, when a host is cut off or a server killed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.lab.openvswitch import SWITCH, OpenVSwitch
from netkit.lab.ovn import CONTROLLER, Controller
from netkit.lab.running import RunningLab
from tests.first_contact import lost
from tests.labs.conftest import CLONE, running
from tests.labs.order import eventually

pytestmark = pytest.mark.skipif(
    not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"
)
SOON = 25  # pings, 20 ms apart: half a second, before a request of ARP is repeated
HOSTS = {"10.0.0.1": "h1", "10.0.0.2": "h2", "10.0.0.3": "h3"}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(CLONE / "labs" / "ovn-cluster", "ovn") as found:
        yield found


def works(lab: RunningLab, host: str, *argv: str) -> bool:
    try:
        lab.netkit(host, *argv)
    except KernelError:
        return False
    return True


def pings(lab: RunningLab, source: str, target: str) -> bool:
    """ARP asks again after a second."""
    return "1 packets received" in lab[source].run(
        "ping", "-c", "1", "-W", "3", lab[target].ip, check=False
    )


def started(lab: RunningLab, host: str, name: str) -> bool:
    """While servers elect a leader, and northd another one, containers are refused."""
    lab.netkit(host, "rm", "-f", name, check=False)  # one that was made, and not started
    run = ("run", "-d", "--name", name, "--network", "wide", "busybox", "sleep", "999")
    return works(lab, host, *run)


def servers(lab: RunningLab, host: str) -> list[dict[str, str]]:
    """Rows of `ovn status`, as that host sees them; KernelError where it ends with 1."""
    found = lab.netkit(host, "ovn", "status", "--format", "json")
    return [json.loads(line) for line in found.splitlines()]


def healthy(lab: RunningLab, host: str, count: int = len(HOSTS)) -> bool:
    """All servers answer, and each database has a leader."""
    roles = [row["Role"] for row in servers(lab, host)]
    return len(roles) == 2 * count and sorted(set(roles)) == ["follower", "leader"]


def test_containers_of_all_hosts_reach_each_other_from_the_first_moments(lab: RunningLab) -> None:
    """A start does not wait for the controllers of other hosts, which follow: see docs/ovn.md."""
    for source, target in (("web", "db"), ("db", "job"), ("job", "web"), ("guest", "other")):
        eventually(lambda a=source, b=target: pings(lab, a, b))
    near, far = (lab[host].daemon.url for host in ("h1", "h2"))
    assert max(lost(near, far, "wide")) <= SOON
    for host in HOSTS.values():
        eventually(lambda host=host: healthy(lab, host))


def test_a_network_lists_its_other_hosts(lab: RunningLab) -> None:
    for host, others in (("h1", ["10.0.0.2", "10.0.0.3"]), ("h3", ["10.0.0.1", "10.0.0.2"])):
        (found,) = json.loads(lab.netkit(host, "net", "inspect", "wide"))
        assert sorted(peer["IP"] for peer in found["Peers"]) == others
        assert {peer["State"] for peer in found["Peers"]} == {"unknown"}  # no BFD, and a tunnel


def test_a_rule_about_a_container_of_another_host_is_an_acl_that_is_in_force(
    lab: RunningLab,
) -> None:
    eventually(lambda: pings(lab, "job", "web"))
    made = lab.netkit("h1", "fw", "drop", "--src", "job", "--to", "web").split()[0]
    try:
        assert not pings(lab, "job", "web")
        assert pings(lab, "db", "web")
        assert "as it should be" in lab.netkit("h1", "fw", "check")
    finally:
        lab.netkit("h1", "fw", "rm", made)
    assert pings(lab, "job", "web")


def test_a_host_that_was_cut_off_is_back_with_what_came_meanwhile(lab: RunningLab) -> None:
    eventually(lambda: pings(lab, "job", "web"))
    lab.h3.run("ip", "link", "set", "eth0", "down")
    try:
        eventually(lambda: started(lab, "h1", "fresh"))
        assert pings(lab, "web", "db")
        assert not pings(lab, "job", "web")
        eventually(lambda: "no: most" in lab.netkit("h3", "ovn", "status", check=False))
        with pytest.raises(KernelError):
            lab.netkit("h3", "ovn", "status")
    finally:
        lab.h3.run("ip", "link", "set", "eth0", "up")
    try:
        eventually(lambda: pings(lab, "job", "web"))
        ping = ("exec", "job", "ping", "-c", "1", "-W", "1", "fresh")
        eventually(lambda: works(lab, "h3", *ping))
    finally:
        lab.netkit("h1", "rm", "-f", "fresh", check=False)
    eventually(lambda: healthy(lab, "h3"))


def leader_of(lab: RunningLab, database: str) -> str:
    """The host that leads this database, once all is well."""
    eventually(lambda: healthy(lab, "h1"))
    leading = [row for row in servers(lab, "h1") if row["Role"] == "leader"]
    row = next(row for row in leading if row["Database"] == database)
    return HOSTS[row["Address"].split()[0]]


@pytest.mark.parametrize("database", ["nb", "sb"])
def test_a_leader_that_is_killed_costs_no_container_and_is_started_again(
    lab: RunningLab, database: str
) -> None:
    leader = leader_of(lab, {"nb": "Northbound", "sb": "Southbound"}[database])
    pidfile = Path(lab.places.run(leader)) / "ovn" / database / "ovsdb-server.pid"
    before = int(pidfile.read_text())
    os.kill(before, signal.SIGKILL)
    assert pings(lab, "job", "web"), "packets pass all the same"
    host = next(h for h in HOSTS.values() if h != leader)
    name = f"x{secrets.token_hex(3)}"
    try:
        eventually(lambda: started(lab, host, name))
        reach = ("exec", name, "ping", "-c", "1", "-W", "1", lab.db.ip)
        eventually(lambda: works(lab, host, *reach))
    finally:
        lab.netkit(host, "rm", "-f", name, check=False)
    eventually(lambda: healthy(lab, leader))
    assert int(pidfile.read_text()) != before


def test_all_northds_killed_cost_no_container(lab: RunningLab) -> None:
    for host in HOSTS.values():
        pidfile = Path(lab.places.run(host)) / "ovn" / "ovn-northd.pid"
        os.kill(int(pidfile.read_text()), signal.SIGKILL)
    assert pings(lab, "job", "web"), "packets pass all the same"
    try:
        eventually(lambda: started(lab, "h2", "fresh"))
    finally:
        lab.netkit("h2", "rm", "-f", "fresh", check=False)


def test_a_killed_switch_and_a_killed_controller_are_back_in_force(lab: RunningLab) -> None:
    h1, h3 = (OpenVSwitch(lab.places.netns(h), Path(lab.places.ovs(h))) for h in ("h1", "h3"))
    controller = Controller(h1)
    controller.kill(CONTROLLER)
    assert pings(lab, "web", "db"), "flows stay"
    h3.kill(SWITCH)
    for host in ("h1", "h3"):
        lab.revive(host)
    assert controller.pid(CONTROLLER)
    eventually(lambda: pings(lab, "job", "web"))
    try:
        eventually(lambda: started(lab, "h1", "fresh"))
        ping = ("exec", "job", "ping", "-c", "1", "-W", "1", "fresh")
        eventually(lambda: works(lab, "h3", *ping))
    finally:
        lab.netkit("h1", "rm", "-f", "fresh", check=False)


def test_a_server_leaves_and_joins_while_packets_pass(lab: RunningLab) -> None:
    eventually(lambda: healthy(lab, "h1"))
    lab.netkit("h1", "ovn", "down")
    assert not (Path(lab.places.root("h1")) / "ovn").exists()
    assert pings(lab, "web", "db")
    eventually(lambda: healthy(lab, "h2", 2))
    lab.up()
    eventually(lambda: healthy(lab, "h1"))
    assert lab.check()
