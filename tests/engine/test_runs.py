"""Successive runs of a container: changes that a run made to its network end with it."""

from __future__ import annotations

import re
import subprocess
import time

from tests.engine.daemon import Engine, fresh, netkit_only

# What a container with CAP_NET_ADMIN, or an administrator in its namespace, can leave there.  Not
# every kernel has all of it.
CHANGES = """
ip addr add 198.51.100.1/32 dev lo
ip addr add 203.0.113.9/24 dev eth0
ip link set eth0 mtu 1400 txqueuelen 7 promisc on
ip route add 192.0.2.0/24 dev eth0
ip rule add from 203.0.113.9 lookup 77
ip neigh add 172.17.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
ip link add dummy7 type dummy
ip link add br7 type bridge
ip tuntap add tap7 mode tap
ip link add mv7 link eth0 type macvlan
tc qdisc replace dev eth0 root pfifo limit 11
iptables -A INPUT -p icmp -j DROP
ip6tables -A INPUT -j DROP
nft add table inet left
sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.eth0.arp_ignore=1
ip xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir out
"""
LOOKS = (
    "ip -d addr", "ip route show table all", "ip rule", "ip -6 rule", "ip neigh show nud permanent",
    "tc qdisc show", "nft list ruleset", "ip xfrm policy",
    "sysctl net.ipv4.ip_forward net.ipv4.conf.eth0.arp_ignore",
)  # fmt: skip


def within(engine: Engine, name: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the container's network namespace, with the host's tools."""
    key = engine.inspect(name)["NetworkSettings"]["SandboxKey"]
    argv = ["nsenter", f"--net={key}", "--", *command.split()]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def did(engine: Engine, name: str, command: str) -> bool:
    return within(engine, name, command).returncode == 0


def looked(engine: Engine, name: str) -> str:
    """Return the state of its namespace, without numbers that differ each time."""
    text = "\n".join(within(engine, name, look).stdout for look in LOOKS)
    return re.sub(r"eth0@if\d+|^\d+:|link-netnsid \d+|(?<=tun_index )\d+", "", text, flags=re.M)


def test_a_restart_begins_with_the_network_of_the_first_run(engine: Engine) -> None:
    name = engine.sleeper()
    before, address = looked(engine, name), engine.address(name)
    failed = [line for line in CHANGES.strip().splitlines() if not did(engine, name, line)]
    assert len(failed) <= 4, failed
    assert looked(engine, name) != before
    engine.docker("restart", "-t", "0", name)
    assert looked(engine, name) == before
    assert engine.address(name) == address
    assert engine.docker("exec", name, "ping", "-c", "1", "-W", "2", "172.17.0.1").returncode == 0


def test_a_restart_by_policy_begins_with_the_network_of_the_first_run(engine: Engine) -> None:
    script = (
        "ip -o -4 addr show dev lo | wc -l; "
        "ip addr add 198.51.100.$((RANDOM % 250 + 1))/32 dev lo; exit 1"
    )
    name = engine.up(
        "--restart", "on-failure:3", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script
    )
    engine.wait_for(name, "Status", "exited")
    assert engine.out("logs", name).split() == ["1"] * 4


def test_names_and_ports_are_there_again_after_a_restart(engine: Engine) -> None:
    network = fresh("n")
    engine.docker("network", "create", network)
    web = engine.up(
        "--network", network, "-p", "127.0.0.1::80", "--stop-timeout=1", "busybox",
        "sh", "-c", "echo yes >/index.html; exec httpd -f -h /",
    )  # fmt: skip
    client = engine.sleeper("--network", network)
    port = engine.out("port", web, "80")
    engine.docker("restart", "-t", "0", web)
    engine.docker("restart", "-t", "0", client)
    assert engine.out("port", web, "80") == port
    get = ("timeout", "5", "wget", "-qO-", f"http://{web}/")
    assert engine.out("exec", client, *get) == "yes"
    assert engine.out("exec", web, "nslookup", client, check=False).count(client)


@netkit_only("a container that shares the namespace of another is left without links there")
def test_containers_that_share_a_namespace_keep_it_while_one_restarts(engine: Engine) -> None:
    first = engine.sleeper()
    sidecar = engine.sleeper("--network", f"container:{first}")
    assert did(engine, first, "ip addr add 198.51.100.1/32 dev lo")
    engine.docker("restart", "-t", "0", first)
    for name in (first, sidecar):
        assert "198.51.100.1/32" in engine.out("exec", name, "ip", "addr")
        engine.docker("exec", name, "ping", "-c", "1", "-W", "2", "172.17.0.1")
    engine.docker("rm", "-f", sidecar)
    engine.docker("restart", "-t", "0", first)
    assert "198.51.100.1/32" not in engine.out("exec", first, "ip", "addr")


@netkit_only("a container that shares the namespace of another is left without links there")
def test_networks_joined_before_a_restart_that_is_due_are_those_of_who_shares_them(
    engine: Engine,
) -> None:
    networks = two_networks(engine)
    first = engine.up(
        "--network", networks[0], "--restart", "always", "busybox", "sh", "-c",
        "while [ ! -e /go ]; do sleep 0.1; done; exit 1",
    )  # fmt: skip
    sidecar = engine.sleeper("--network", f"container:{first}")
    engine.docker("exec", first, "touch", "/go", check=False)  # which may end with the container
    runs_again(engine, first, 3)  # from here on its restarts are 0.8 s and more apart
    engine.wait_for(first, "Status", "restarting")
    engine.docker("network", "connect", networks[1], first)
    engine.docker("network", "disconnect", networks[0], first)
    runs_again(engine, first, int(engine.out("inspect", "-f", "{{.RestartCount}}", first)) + 1)
    gateway = engine.out(
        "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", networks[1]
    )
    engine.docker("exec", sidecar, "ping", "-c", "1", "-W", "2", gateway)


def two_networks(engine: Engine) -> list[str]:
    networks = [fresh("n"), fresh("n")]
    for network in networks:
        engine.docker("network", "create", network)
    return networks


def runs_again(engine: Engine, name: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while int(engine.out("inspect", "-f", "{{.RestartCount}}", name)) < count:
        assert time.monotonic() < deadline, engine.out("ps", "-a")
        time.sleep(0.05)


def test_a_network_joined_while_the_restart_is_due_is_joined_by_the_next_run(
    engine: Engine,
) -> None:
    networks = two_networks(engine)
    name = engine.up(
        "--network", networks[0], "--restart", "always", "busybox", "sh", "-c",
        "ip -o -4 addr | wc -l; sleep 0.2; exit 1",
    )  # fmt: skip
    engine.wait_for(name, "Status", "restarting")
    deadline = time.monotonic() + 60
    while engine.out("logs", name).split()[-1] != "2" or engine.state(name)["Restarting"] is False:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    engine.docker("network", "connect", networks[1], name)
    while engine.out("logs", name).split()[-1] != "3":
        assert time.monotonic() < deadline, engine.out("logs", name)
        time.sleep(0.05)


def test_a_restart_is_reported_as_leaving_and_joining(engine: Engine) -> None:
    name = engine.sleeper()
    since = str(time.time())
    engine.docker("restart", "-t", "0", name)
    actions = engine.out(
        "events", "--since", since, "--until", str(time.time()), "--format", "{{.Type}} {{.Action}}"
    ).splitlines()
    assert [word for word in actions if word != "container kill"] == [
        "container die", "network disconnect", "container stop", "network connect",
        "container start", "container restart",
    ]  # fmt: skip
