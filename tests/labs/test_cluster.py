"""Hosts that share state: one network, one set of addresses, whatever is killed meanwhile."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.l2 import ARP

from netkit.errors import KernelError
from netkit.lab.openvswitch import DATABASE, SWITCH, OpenVSwitch
from netkit.lab.running import RunningLab
from tests.first_contact import lost
from tests.labs import order
from tests.labs.conftest import CLONE, running
from tests.labs.order import bridges, eventually, in_order, rows

HOSTS = ("h1", "h2", "h3", "h4")
SERVERS = HOSTS[:3]
ADDRESSES = {f"10.0.0.{n}": host for n, host in enumerate(HOSTS, 1)}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with running(CLONE / "labs" / "ovs-cluster", "cluster") as lab:
        yield lab


def status(lab: RunningLab, host: str) -> str:
    return lab.netkit(host, "cluster", "status")


def networks(lab: RunningLab, host: str) -> set[str]:
    return {n.name for n in order.networks(lab, host)}


def containers(lab: RunningLab, host: str, network: str = "wide") -> dict[str, str]:
    """Return name to address, as the engine of a host reports them."""
    return next(n.names for n in order.networks(lab, host) if n.name == network)


def server_pid(lab: RunningLab, host: str) -> int:
    return int((Path(lab.places.run(host)) / "cluster" / "ovsdb-server.pid").read_text())


def kill_leader(lab: RunningLab) -> str:
    """Send SIGKILL, nothing else; return the host it was on."""
    leader = ""

    def known() -> bool:
        nonlocal leader
        found = re.search(r"Leader: +(10\.\S+)", status(lab, "h2"))
        leader = ADDRESSES[found[1]] if found else ""
        return bool(leader)

    eventually(known)
    os.kill(server_pid(lab, leader), signal.SIGKILL)
    return leader


def test_a_network_of_one_host_is_on_all_and_so_are_names(lab: RunningLab) -> None:
    for host in HOSTS:
        assert networks(lab, host) == {"wide", "side"}
    eventually(lambda: "10.70.0.100" in lab.late.run("ping", "-c", "1", "-W", "2", "db"))
    eventually(lambda: lab.web.ip in lab.job.run("ping", "-c", "1", "-W", "2", "web"))
    eventually(lambda: in_order(lab) is None)
    ids = {lab.netkit(h, "net", "inspect", "--format", "{{.Id}}", "wide") for h in HOSTS}
    assert len(ids) == 1


def test_what_is_known_is_not_flooded(lab: RunningLab) -> None:
    """h2 receives no packet between web of h1 and job of h3, not even ARP."""
    eventually(lambda: in_order(lab) is None)
    job = lab.job.ip
    lab.web.run("arp", "-d", job, check=False)
    with lab.db.tap() as tap:
        assert lab.web.can_reach(lab.job)
        assert lab.web.can_reach(lab.db)  # the tap receives packets at all
        eventually(lambda: [p for p in tap.all() if ICMP in p])
        requests = [p for p in tap.all() if ARP in p and p[ARP].pdst == job]
    assert requests == []


def test_the_first_packets_of_a_container_are_not_lost_between_hosts(lab: RunningLab) -> None:
    """Other hosts follow the cluster: they may know the new container only after its start."""
    near, far = (lab[host].daemon.url for host in ("h1", "h2"))
    assert lost(near, far, "wide") == (0, 0)


def test_networks_come_and_go_on_all_hosts(lab: RunningLab) -> None:
    lab.netkit("h4", "net", "create", "--scope", "global", "-d", "ovs", "fresh")
    for host in HOSTS:
        eventually(lambda host=host: "fresh" in networks(lab, host), what=host)
    lab.netkit("h2", "run", "-d", "--name", "user", "--network", "fresh", "busybox", "sleep", "999")
    with pytest.raises(KernelError, match=r"active endpoints \(user on \S+ \(10\.0\.0\.2\)\)"):
        lab.netkit("h3", "net", "rm", "fresh")
    with pytest.raises(KernelError, match="already exists"):
        lab.netkit("h1", "net", "create", "--scope", "global", "-d", "ovs", "fresh")
    lab.netkit("h2", "rm", "-f", "user")
    eventually(lambda: lab.netkit("h3", "net", "rm", "fresh"))
    for host in HOSTS:
        eventually(lambda host=host: "fresh" not in networks(lab, host), what=host)
        eventually(lambda host=host: len(bridges(lab, host)) == 2, what=host)
    eventually(lambda: in_order(lab) is None)


def test_an_address_that_is_asked_for_is_one_containers(lab: RunningLab) -> None:
    argv = ["--network", "wide", "--ip", "10.70.0.77", "busybox", "sleep", "999"]
    lab.netkit("h1", "create", "--name", "first", *argv)
    with pytest.raises(KernelError, match=r"10\.70\.0\.77 is held by .* on \S+ \(10\.0\.0\.1\)"):
        lab.netkit("h3", "create", "--name", "second", *argv)
    lab.netkit("h1", "rm", "first")
    eventually(lambda: lab.netkit("h3", "create", "--name", "second", *argv))
    lab.netkit("h3", "rm", "second")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-d", "bridge"], "driver has no networks of scope global"),
        (["-d", "ovs", "-o", "peers=10.0.0.9"], "option peers is for scope local"),
        (["-d", "ovs", "-o", "mode=routed"], "mode=routed is for scope local"),
        (["-d", "ovs", "--subnet", "10.70.0.0/25"], "overlaps"),
    ],
)
def test_what_cannot_be_shared_is_refused(lab: RunningLab, flags: list[str], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        lab.netkit("h4", "net", "create", "--scope", "global", *flags, "never")
    assert all("never" not in networks(lab, host) for host in HOSTS)


def rule(lab: RunningLab, host: str, verdict: str, *flags: str) -> str:
    return lab.netkit(host, "fw", verdict, *flags).strip()


def test_rules_about_a_container_hold_for_senders_on_other_hosts(lab: RunningLab) -> None:
    made = rule(lab, "h1", "drop", "--src", lab.job.ip, "--to", "web")
    assert lab.job.cannot_reach(lab.web)
    assert lab.job.cannot_reach(lab.web, "tcp/80")
    assert lab.late.can_reach(lab.web, "tcp/80")
    assert lab.job.can_reach(lab.db, "tcp/80")  # it is about web
    found = lab.trace("job", "web", "tcp/80")
    assert (found.verdict, found.code) == ("BLOCKED", "access-rule")
    lab.restart("h1")
    assert lab.job.cannot_reach(lab.web, "tcp/80")
    switch = OpenVSwitch(lab.places.netns("h1"), Path(lab.places.ovs("h1")))
    switch.kill(SWITCH)
    lab.revive("h1")
    eventually(lambda: lab.late.can_reach(lab.web, "tcp/80"))
    assert lab.job.cannot_reach(lab.web, "tcp/80")
    for host in HOSTS:
        assert "as it should be" in lab.netkit(host, "fw", "check")
    lab.netkit("h1", "fw", "rm", made)
    assert lab.job.can_reach(lab.web, "tcp/80")
    # The switch was started anew: the ends of its tunnels have to receive from each other first.
    eventually(lambda: lab.trace("job", "web", "tcp/80").verdict == "DELIVERED")


def test_the_first_rule_that_fits_decides_for_those_who_come_later_too(lab: RunningLab) -> None:
    rule(lab, "h1", "accept", "--src", lab.job.ip, "--to", "web", "-p", "80/tcp")
    rule(lab, "h1", "drop", "--src", "10.70.0.0/24", "--to", "web")
    lab.netkit("h4", "run", "-d", "--name", "new", "--network", "wide", "busybox", "sleep", "999")
    eventually(lambda: in_order(lab) is None)
    try:
        assert lab.job.can_reach(lab.web, "tcp/80")
        assert lab.job.cannot_reach(lab.web)
        assert lab.late.cannot_reach(lab.web, "tcp/80")
        assert lab.h1.can_reach(lab.web, "tcp/80")  # who is on the host is not kept out
        new = containers(lab, "h4")["new"]
        ping = ("exec", "new", "ping", "-c", "1", "-W", "2")
        assert not works(lab, "h4", *ping, lab.web.ip)
        assert works(lab, "h4", *ping, lab.db.ip)
        assert lab.db.can_reach(new)
        # Answers to what web itself asks for come by the same rules: only port 80 is let in.
        assert lab.web.cannot_reach(lab.late, "tcp/80")
    finally:
        lab.netkit("h4", "rm", "-f", "new")
        lab.netkit("h1", "fw", "rm", *lab.netkit("h1", "fw", "ls", "-q").split())
    assert lab.late.can_reach(lab.web, "tcp/80")
    assert lab.web.can_reach(lab.late, "tcp/80")


def works(lab: RunningLab, host: str, *argv: str) -> bool:
    try:
        lab.netkit(host, *argv)
    except KernelError:
        return False
    return True


def test_what_fw_explain_does_not_know_it_says(lab: RunningLab) -> None:
    for source, target in (("web", lab.job.ip), ("web", "web"), (lab.job.ip, "web")):
        with pytest.raises(KernelError, match=r"web is on network wide.*netkit net trace"):
            lab.netkit("h1", "fw", "explain", source, target, "80")


def test_a_rule_names_a_container_of_another_host_and_follows_it(lab: RunningLab) -> None:
    with pytest.raises(KernelError, match="No such container: nobody"):
        rule(lab, "h1", "drop", "--src", "nobody", "--to", "web")
    run = ("run", "-d", "--network", "wide", "--stop-timeout", "0")
    lab.netkit("h4", *run, "--name", "rover", "busybox", "sleep", "999")
    eventually(lambda: in_order(lab) is None)
    made = rule(lab, "h1", "drop", "--src", "rover", "--to", "web")
    ping = ("exec", "rover", "ping", "-c", "1", "-W", "2", lab.web.ip)
    try:
        assert not works(lab, "h4", *ping)
        assert "rover" in lab.netkit("h1", "fw", "ls")
        before = containers(lab, "h4")["rover"]
        lab.netkit("h4", "stop", "rover")
        lab.netkit("h4", *run, "--ip", before, "--name", "taker", "busybox", "sleep", "999")
        eventually(lambda: works(lab, "h4", "exec", "taker", *ping[2:]))  # it is not rover
        lab.netkit("h4", "start", "rover")
        assert containers(lab, "h4")["rover"] != before
        eventually(lambda: not works(lab, "h4", *ping))
        assert works(lab, "h4", "exec", "taker", *ping[2:])
    finally:
        lab.netkit("h4", "rm", "-f", "rover", "taker")
        lab.netkit("h1", "fw", "rm", made)


def run_some(lab: RunningLab, host: str, number: int) -> list[str]:
    """Start containers one after the other; return those that were started."""
    started = []
    for n in range(number):
        name = f"{host}x{n}{secrets.token_hex(2)}"
        try:
            lab.netkit(
                host, "run", "-d", "--name", name, "--network", "wide", "busybox", "sleep", "999"
            )
        except KernelError:  # a process was just killed
            lab.netkit(host, "rm", "-f", name, check=False)
        else:
            started.append(name)
    return started


def remove(lab: RunningLab, started: dict[str, list[str]]) -> None:
    for host, names in started.items():
        if names:
            lab.netkit(host, "rm", "-f", *names)


def come_and_go(lab: RunningLab, host: str, number: int) -> None:
    """Create and remove networks; those that a killed process holds up are removed at last."""
    names = [f"brief{n}" for n in range(number)]
    for name in names:
        create = ["net", "create", "--scope", "global", "-d", "ovs", name]
        lab.netkit(host, *create, check=False)
        lab.netkit(host, "net", "rm", name, check=False)

    def removed() -> bool:
        for name in {*names} & networks(lab, host):
            lab.netkit(host, "net", "rm", name)
        return not {name for (name,) in rows(lab, "Network", "name")} & {*names}

    eventually(removed)


def test_all_hosts_at_once_never_get_the_same_address(lab: RunningLab) -> None:
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        started = dict(zip(HOSTS, pool.map(lambda h: run_some(lab, h, 4), HOSTS), strict=True))
    assert [len(names) for names in started.values()] == [4] * 4
    eventually(lambda: in_order(lab) is None)
    remove(lab, started)
    eventually(lambda: in_order(lab) is None)


def test_a_killed_leader_costs_no_address(lab: RunningLab) -> None:
    with ThreadPoolExecutor(len(HOSTS) + 1) as pool:
        coming = {host: pool.submit(run_some, lab, host, 3) for host in HOSTS}
        networks_too = pool.submit(come_and_go, lab, "h4", 3)
        leader = kill_leader(lab)
        assert lab.web.can_reach(lab.db)
        started = {host: found.result() for host, found in coming.items()}
        networks_too.result()
    eventually(lambda: server_pid(lab, leader), what="its netkitd starts it again")
    eventually(lambda: all("Answers:   yes" in status(lab, h) for h in HOSTS))
    eventually(lambda: in_order(lab) is None)
    started["h1"] += run_some(lab, "h1", 1)
    assert started["h1"]
    remove(lab, started)
    eventually(lambda: in_order(lab) is None)


def test_killed_daemons_leave_nothing_without_an_owner(lab: RunningLab) -> None:
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        coming = {host: pool.submit(run_some, lab, host, 3) for host in HOSTS}
        for host in ("h2", "h4"):
            time.sleep(0.7)
            lab[host].daemon.kill()
        assert lab.web.can_reach("10.70.0.100")  # containers do without
        started = {host: found.result() for host, found in coming.items()}
    lab.up()
    for host in HOSTS:
        listed = lab.netkit(host, "ps", "-aq", "--filter", f"name={host}x").split()
        started[host] = listed
    eventually(lambda: in_order(lab) is None)
    remove(lab, started)
    eventually(lambda: in_order(lab) is None)
    assert lab.check()


def test_killed_switches_come_back_as_they_should_be(lab: RunningLab) -> None:
    switches = {
        host: OpenVSwitch(lab.places.netns(host), Path(lab.places.ovs(host))) for host in HOSTS
    }
    with ThreadPoolExecutor(len(HOSTS)) as pool:
        coming = {host: pool.submit(run_some, lab, host, 2) for host in HOSTS}
        time.sleep(0.5)
        switches["h1"].kill(SWITCH)
        switches["h3"].kill(DATABASE)
        time.sleep(1.0)
        lab.up()  # as the host's init would start them
        started = {host: found.result() for host, found in coming.items()}
    eventually(lambda: in_order(lab) is None)
    assert lab.check()
    remove(lab, started)
    eventually(lambda: in_order(lab) is None)


def test_without_most_servers_what_runs_goes_on_and_one_line_says_why(lab: RunningLab) -> None:
    stopped = [server_pid(lab, "h1"), server_pid(lab, "h3")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)  # as if dead for its peers; killed, it would be started again
    try:
        with pytest.raises(KernelError, match=r"the cluster( at \S+)? (does|did) not answer"):
            lab.netkit("h2", "run", "--rm", "--network", "wide", "busybox", "true")
        assert lab.netkit("h2", "run", "--rm", "busybox", "echo", "fine") == "fine\n"
        lab.restart("h4")  # from its local database
        assert lab.web.can_reach(lab.db)
        assert lab.late.can_reach(lab.db)
        assert "10.70.0.100" in lab.late.run("ping", "-c", "1", "-W", "2", "db")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: all("Answers:   yes" in status(lab, h) for h in HOSTS))
    eventually(lambda: in_order(lab) is None)


def test_a_host_that_leaves_takes_its_tunnels_along(lab: RunningLab) -> None:
    """Runs last: h3 leaves the cluster, and joins again."""
    with pytest.raises(KernelError, match=r"containers are on networks of scope global.*job"):
        lab.netkit("h3", "cluster", "leave")
    lab.netkit("h3", "rm", "-f", "job")
    lab.netkit("h3", "cluster", "leave")
    assert networks(lab, "h3") == set()
    assert bridges(lab, "h3") == []
    eventually(lambda: "10.0.0.3" not in lab.h1.run("ovs-vsctl", "show"))
    with pytest.raises(KernelError, match="this host is in no cluster"):
        lab.netkit("h3", "net", "create", "--scope", "global", "-d", "ovs", "lonely")
    lab.up()
    eventually(lambda: in_order(lab) is None)
    lab.netkit("h3", "rm", "-f", "job")
    lab.netkit("h3", "cluster", "leave", "--force")  # the other hosts are not notified
    assert networks(lab, "h3") == set()
    assert "10.0.0.3" in status(lab, "h1")
    lab.netkit("h1", "cluster", "leave", "10.0.0.3")
    eventually(lambda: "10.0.0.3" not in lab.h1.run("ovs-vsctl", "show"))
    lab.up()
    eventually(lambda: in_order(lab) is None)
    assert lab.job.can_reach(lab.db)
    assert lab.late.can_reach(lab.job)
