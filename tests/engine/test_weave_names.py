"""Names of containers on two hosts, as containers ask for them: short, full, and by address."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress

import pytest

from netkit.testing.waiting import eventually
from tests.engine import weave_hosts
from tests.engine.daemon import netkit_only
from tests.engine.weave_hosts import Host, Hosts

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("it has no weave driver")]


@pytest.fixture(scope="module")
def hosts(weave_hosts_of_module: Hosts) -> Hosts:
    """With containers one on the first host and two on the second, on network weave."""
    first, second = weave_hosts_of_module
    weave_hosts.launch((first, second))
    first.run(name="one")
    second.run("--network-alias", "site", name="two")
    return first, second


def asked(host: Host, container: str, name: str) -> set[str]:
    """What a container is answered: addresses, or names of an address; nothing: there is none."""
    done = host.engine.docker("exec", container, "nslookup", name, check=False)
    text = done.stdout.partition("\n\n")[2]  # after the server's own address
    return {
        word.rstrip(".") for line in text.splitlines()
        for word in re.findall(r"(?:Address(?: \d+)?: |name = )(\S+)", line)
    }  # fmt: skip


def silent(host: Host, container: str, target: str) -> bool:
    ping = ("exec", container, "ping", "-c1", "-W1", target)
    return host.engine.docker(*ping, check=False).returncode != 0


def test_a_container_is_found_from_the_other_host_by_all_of_its_names(hosts: Hosts) -> None:
    first, second = hosts
    two = second.engine.address("two", "weave")
    eventually(lambda: asked(first, "one", "two") == {two})
    for name in ("site", "TWO", "two.weave", "two.weave.local", "Site.Weave.Weave.Local."):
        assert asked(first, "one", name) == {two}, name
    assert asked(first, "one", two) == {"two.weave.local"}
    one = first.engine.address("one", "weave")
    eventually(lambda: asked(second, "two", "one.weave.local") == {one})
    # A name on both hosts has both addresses, and one that was removed is not found.
    eventually(lambda: first.pings("one", "two"))
    second.engine.sleeper("--network", "weave", "--network-alias", "one", name="three")
    three = second.engine.address("three", "weave")
    eventually(lambda: asked(first, "one", "one.weave.local") == {one, three})
    second.engine.out("rm", "-f", "three")
    eventually(lambda: asked(first, "one", "one.weave.local") == {one})


def test_names_that_are_added_on_one_host_are_answered_on_the_other(hosts: Hosts) -> None:
    first, second = hosts
    second.post("/dns/add", Name="db.weave.local", Addresses=["192.0.2.9", "192.0.2.10"])
    for host, container in ((first, "one"), (second, "two")):
        eventually(lambda h=host, c=container: asked(h, c, "db") == {"192.0.2.9", "192.0.2.10"})
    assert asked(first, "one", "192.0.2.9") == {"db.weave.local"}
    assert first.ask("GET", "/dns/lookup", {"name": "192.0.2.9"}) == {"Names": ["db.weave.local"]}
    second.post("/dns/remove", Name="db.weave.local")
    eventually(lambda: not asked(first, "one", "db.weave.local"))
    # The host's own, while it is exposed.
    (gate,) = second.post("/expose", Names=["gate.weave.local"])["Addresses"]
    eventually(lambda: asked(first, "one", "gate") == {gate.partition("/")[0]})
    second.post("/hide")
    eventually(lambda: not asked(first, "one", "gate.weave.local"))
    # One that was added for a container ends with it.
    second.engine.sleeper("--network", "weave", name="four")
    four = second.engine.address("four", "weave")
    second.post("/dns/add", Container="four", Name="www.shop.weave.local")
    eventually(lambda: asked(first, "one", "www.shop.weave.local") == {four})
    second.engine.out("rm", "-f", "four")
    eventually(lambda: not asked(first, "one", "www.shop.weave.local"))
    assert first.ask("GET", "/dns/lookup", {"name": "www.shop.weave.local"}) == {"Addresses": []}


def test_a_name_is_there_on_its_own_network_only_and_nothing_below_the_domain_leaves(
    hosts: Hosts,
) -> None:
    first, second = hosts
    for n, host in enumerate(hosts):
        # Internal: nothing else is asked, so that it is known at once what is not there.
        lane = ("--internal", "-d", "weave", "--subnet", "10.60.0.0/24", "lane")
        host.engine.out("network", "create", *lane)
        host.engine.out("network", "create", "--internal", f"apart{n}")
    two = second.engine.address("two", "weave")
    first.engine.sleeper("--network", "lane", name="inlane")
    first.engine.sleeper("--network", "apart0", name="apart")
    second.engine.sleeper("--network", "lane", name="behind")
    behind = second.engine.address("behind", "lane")
    eventually(lambda: asked(first, "inlane", "behind.lane.weave.local") == {behind})
    for name in ("two", "two.weave", "two.weave.local", two, "unknown.weave.local"):
        assert asked(first, "inlane", name) == set(), name
        assert asked(first, "apart", name) == set(), name
    assert asked(first, "one", "behind.lane.weave.local") == set()
    done = first.engine.docker("exec", "one", "nslookup", "unknown.weave.local", check=False)
    assert "NXDOMAIN" in done.stdout + done.stderr


def test_names_and_rules_go_with_the_other_host_and_come_back(hosts: Hosts) -> None:
    first, second = hosts
    two = second.engine.address("two", "weave")
    rule = "drop", "--src", "h2/two", "--to", "one"
    eventually(lambda: asked(first, "one", "two") == {two})
    first.engine.netkit("fw", *rule)
    assert silent(second, "two", "one")
    for ends in (("two", "one"), ("one", "h2/two")):  # of the latter the answer
        done = first.engine.netkit("fw", "explain", *ends, "80/tcp", check=False)
        assert (done.returncode, "dropped by rule" in done.stdout) == (1, True), done
    shown = first.engine.out("network", "inspect", "-f", "{{json .Peers}}", "weave")
    assert '"Name":"h2"' in shown
    pid = second.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: not asked(first, "one", "two.weave.local"))
        assert '"Name":"h2"' not in first.engine.out("network", "inspect", "weave")
    finally:
        with suppress(ProcessLookupError):  # killed by now, as one that hangs
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: asked(first, "one", "two") == {two})
    rule_shown = json.loads(first.engine.netkit("fw", "ls", "--format", "json").stdout)
    assert (rule_shown["Source"], rule_shown["Status"]) == ("h2/two", "in force")
    assert silent(second, "two", "one")
    first.engine.netkit("fw", "rm", rule_shown["ID"])
    eventually(lambda: second.pings("two", "one"))


def test_what_is_known_outlives_netkitd_and_ends_with_the_overlay(hosts: Hosts) -> None:
    first, second = hosts
    two = second.engine.address("two", "weave")
    first.engine.kill9()
    first.engine.restart()
    assert asked(first, "one", "two") == {two}
    first.post("/stop")
    eventually(lambda: not asked(first, "one", "two.weave.local"))
    assert asked(first, "one", "one.weave.local")
