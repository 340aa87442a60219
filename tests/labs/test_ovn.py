"""The lab ovn-cluster: what goes on, and comes back, when a host is cut off or a server killed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import KernelError
from netkit.lab.running import RunningLab
from tests.first_contact import lost
from tests.labs.conftest import CLONE, running
from tests.labs.order import eventually

pytestmark = pytest.mark.skipif(
    not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"
)
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
    return "1 packets received" in lab[source].run(
        "ping", "-c", "1", "-W", "1", lab[target].ip, check=False
    )


def started(lab: RunningLab, host: str, name: str) -> bool:
    """While servers elect a leader, and northd another one, containers are refused."""
    lab.netkit(host, "rm", "-f", name, check=False)  # one that was made, and not started
    run = ("run", "-d", "--name", name, "--network", "wide", "busybox", "sleep", "999")
    return works(lab, host, *run)


def healthy(lab: RunningLab, host: str) -> bool:
    """Servers, a leader of each database and northd are there, and nothing is amiss."""
    found = lab.netkit(host, "ovn", "status")
    return found.count("(leader 10.") == 2 and "Problem" not in found


def test_containers_of_all_hosts_reach_each_other_and_their_first_packets_are_not_lost(
    lab: RunningLab,
) -> None:
    for source, target in (("web", "db"), ("db", "job"), ("job", "web"), ("guest", "other")):
        eventually(lambda a=source, b=target: pings(lab, a, b))
    near, far = (lab[host].daemon.url for host in ("h1", "h2"))
    assert lost(near, far, "wide") == (0, 0)
    for host in HOSTS.values():
        eventually(lambda host=host: healthy(lab, host))


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
    finally:
        lab.h3.run("ip", "link", "set", "eth0", "up")
    try:
        eventually(lambda: pings(lab, "job", "web"))
        ping = ("exec", "job", "ping", "-c", "1", "-W", "1", "fresh")
        eventually(lambda: works(lab, "h3", *ping))
    finally:
        lab.netkit("h1", "rm", "-f", "fresh", check=False)
    eventually(lambda: healthy(lab, "h3"))


def leader_of(lab: RunningLab, title: str) -> str:
    """The host that leads this database, once all is well."""
    found = ""

    def known() -> bool:
        nonlocal found
        text = lab.netkit("h1", "ovn", "status")
        match = re.search(rf"{title}: .*\(leader (10\.\S+)\)", text)
        found = HOSTS[match[1]] if match and "Problem" not in text else ""
        return bool(found)

    eventually(known)
    return found


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
