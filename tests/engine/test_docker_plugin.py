"""A real dockerd with netkit's drivers and IPAM as plugins."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from tests.engine.daemon import KIND, fresh
from tests.engine.dockerd import DockerHost, docker_host
from tests.engine.wire import HOST, NEIGHBOUR, WORLD, inside

pytestmark = pytest.mark.skipif(KIND == "dockerd", reason="it is about netkitd beside dockerd")
SUBNET = "10.44.0.0/24"


@pytest.fixture(scope="module")
def shared() -> Iterator[DockerHost]:
    with docker_host() as host:
        yield host


@pytest.fixture
def host(shared: DockerHost) -> Iterator[DockerHost]:
    yield shared
    shared.docker.clear()
    shared.wait("netkit has nothing left", lambda: not shared.networks() and not shared.links())


def create(host: DockerHost, *flags: str, driver: str = "netkit-bridge") -> str:
    name = fresh("net")
    host.docker.docker(
        "network", "create", "-d", driver, "--ipam-driver", "netkit", *flags, name
    )
    return name


def run(host: DockerHost, net: str, *, ip: str = "", mac: str = "") -> str:
    """`docker run --ip --mac-address`; the latter is by the API, as 20.10 has it."""
    name, api = fresh("c"), host.docker.client.api
    settings = api.create_endpoint_config(ipv4_address=ip or None)
    made = api.create_container(
        "busybox", ["sleep", "100000"], name=name, mac_address=mac or None,
        host_config=api.create_host_config(network_mode=net),
        networking_config=api.create_networking_config({net: settings}),
    )  # fmt: skip
    api.start(made["Id"])
    return name


def ping(host: DockerHost, source: str, target: str) -> None:
    host.docker.docker("exec", source, "ping", "-c1", "-W20", target)


def test_run_with_address_mac_and_names(host: DockerHost) -> None:
    net = create(host, "--subnet", SUBNET)
    one = run(host, net, ip="10.44.0.9", mac="02:42:00:00:44:09")
    two = host.docker.sleeper("--network", net, "--network-alias", "other")
    assert host.docker.address(one, net) == "10.44.0.9"
    assert "02:42:00:00:44:09" in host.docker.out("exec", one, "ip", "link", "show", "eth0")
    assert "default via 10.44.0.1" in host.docker.out("exec", one, "ip", "route")
    ping(host, one, two)
    ping(host, two, one)
    ping(host, one, "other")
    host.named(one, two)
    assert host.members()[one] == "10.44.0.9/24"
    refused = host.docker.docker(
        "run", "--rm", "--network", net, "--ip", "10.44.0.9", "busybox", "true", check=False
    )
    assert "Address already in use: 10.44.0.9 is held by container" in refused.stderr


def test_connect_and_disconnect_a_running_container(host: DockerHost) -> None:
    one, two = create(host), create(host)
    name = host.docker.sleeper("--network", one)
    host.docker.docker("network", "connect", "--ip", "", two, name)
    other = host.docker.sleeper("--network", two)
    ping(host, name, other)
    host.wait("both", lambda: len(host.links()) == 3)
    host.docker.docker("network", "disconnect", two, name)
    assert len(host.links()) == 2
    host.docker.docker("network", "connect", two, name)
    ping(host, name, other)
    host.docker.docker("restart", "-t1", name)
    ping(host, name, other)
    host.docker.docker("stop", "-t1", name)
    assert len(host.links()) == 1
    host.docker.docker("start", name)
    ping(host, name, other)


def test_a_published_port_is_reached_from_the_lan(host: DockerHost) -> None:
    net = create(host)
    server = "while :; do echo served | nc -l -p 80 >/dev/null; done"
    name = host.docker.up("--network", net, "-p", "8044:80", "--stop-timeout=1", "busybox", "sh",
                          "-c", server)  # fmt: skip
    assert "served" in fetch(host, "10.77.0.1", 8044)
    refused = host.docker.docker("run", "-d", "--network", net, "-p", "8044:80", "busybox", "true",
                                 check=False)  # fmt: skip
    assert "port is already allocated" in refused.stderr
    host.docker.docker("rm", "-f", name)
    assert "served" not in fetch(host, "10.77.0.1", 8044)


def fetch(host: DockerHost, address: str, port: int) -> str:
    """What a server sends to the neighbour on the LAN."""
    program = (
        "import socket, sys\n"
        "try:\n"
        f"    s = socket.create_connection(({address!r}, {port}), 20)\n"
        "    print(s.recv(100).decode())\n"
        "except OSError as e: print(e)\n"
    )
    argv = inside(host.netkit.wire.neighbour, sys.executable, "-c", program)
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_an_internal_network_leads_nowhere_else(host: DockerHost) -> None:
    net = create(host, "--internal")
    one, two = (host.docker.sleeper("--network", net) for _ in range(2))
    assert "default" not in host.docker.out("exec", one, "ip", "route")
    assert host.docker.out("exec", one, "ls", "/sys/class/net").split() == ["eth0", "lo"]
    ping(host, one, two)


@pytest.mark.parametrize("ipam", ["netkit", "default"])
def test_a_container_is_a_host_of_the_lan(host: DockerHost, ipam: str) -> None:
    """`netkit-lan`: at an address of the LAN, both ways; dockerd moves and names the interface."""
    host.docker.docker(
        "network", "create", "-d", "netkit-lan", "--ipam-driver", ipam, "-o", "parent=eth0",
        "--subnet", "10.77.0.0/24", "--gateway", NEIGHBOUR, "--ip-range", "10.77.0.128/26", "lan0",
    )  # fmt: skip
    one, two = (host.docker.sleeper("--network", "lan0") for _ in range(2))
    address = host.docker.address(one, "lan0")
    assert address.startswith("10.77.0.1")
    assert f"default via {NEIGHBOUR}" in host.docker.out("exec", one, "ip", "route")
    for target in (NEIGHBOUR, HOST, WORLD, two):
        ping(host, one, target)
    wire = host.netkit.wire
    subprocess.run(inside(wire.neighbour, "busybox", "ping", "-c1", "-W20", address), check=True)
    host.named(one, two)
    refused = host.docker.docker("run", "--rm", "--network", "lan0", "-p", "8044:80", "busybox",
                                 "true", check=False)  # fmt: skip
    assert "ports" in refused.stderr, refused.stderr
    host.docker.docker("restart", "-t1", one)
    ping(host, two, one)
    host.netkit.kill9()
    host.netkit.restart()
    host.named(one, two)
    ping(host, two, one)
    ping(host, one, NEIGHBOUR)


def test_repair_of_the_hosts_end(host: DockerHost) -> None:
    net = create(host)
    one, two = (host.docker.sleeper("--network", net) for _ in range(2))
    veth = next(n for n in host.links() if n.startswith("veth"))
    subprocess.run(inside(host.netkit.netns, "ip", "link", "set", veth, "nomaster"), check=True)
    ping(host, one, two)
    ping(host, two, one)
    host.named(one, two)
    before = [host.docker.out("exec", c, "ip", "-4", "addr", "show", "eth0") for c in (one, two)]
    for link in host.links():
        subprocess.run(inside(host.netkit.netns, "ip", "link", "del", link), check=True)
    host.wait("the way", lambda: host.docker.docker(
        "exec", one, "ping", "-c1", "-W5", two, check=False).returncode == 0)  # fmt: skip
    ping(host, two, one)
    for name, old in zip((one, two), before, strict=True):
        new = host.docker.out("exec", name, "ip", "-4", "addr", "show", "eth0")
        assert new.split("inet ")[1] == old.split("inet ")[1]
        assert "default via" in host.docker.out("exec", name, "ip", "route")
    host.docker.docker("restart", "-t1", one)
    ping(host, two, one)


def test_the_default_route_stays_with_its_network_where_all_pairs_are_deleted(
    host: DockerHost,
) -> None:
    """dockerd has it by the network whose name sorts first."""
    nets = sorted(create(host) for _ in range(3))
    name = host.docker.sleeper("--network", nets[1])
    for net in (nets[0], nets[2]):
        host.docker.docker("network", "connect", net, name)
    host.wait("three pairs", lambda: len([n for n in host.links() if n.startswith("veth")]) == 3)
    # Names of the container and of its interfaces are requested after dockerd's calls.
    host.wait("three names", lambda: [
        c["Name"] for n in host.networks() for c in n["Containers"].values()] == [name] * 3)
    before = host.docker.out("exec", name, "ip", "route")
    assert before.count("default via") == 1

    def pairs() -> list[str]:
        return [link for link in host.links() if link.startswith("veth")]

    def restored() -> bool:
        now = host.docker.out("exec", name, "ip", "route")
        return sorted(now.splitlines()) == sorted(before.splitlines())

    for doomed in (pairs(), *([link] for link in pairs())):  # all, and each by itself
        for link in doomed:
            subprocess.run(inside(host.netkit.netns, "ip", "link", "del", link), check=True)
        host.wait("three pairs", lambda: len(pairs()) == 3)
        host.wait("the routes", restored)


@pytest.fixture
def unnamed(tmp_path: Path) -> Iterator[tuple[DockerHost, Path]]:
    """A host whose netkitd reaches dockerd's API at a path where there is nothing yet."""
    path = tmp_path / "api"
    with docker_host(netkitd=[f"--docker-api=unix://{path}"]) as host:
        yield host, path


def test_pairs_deleted_before_dockerd_has_said_whose_they_are(
    unnamed: tuple[DockerHost, Path],
) -> None:
    """They are made anew as they were, once it has; and nothing else is made before."""
    host, api = unnamed
    nets = sorted(create(host) for _ in range(3))
    name = host.docker.sleeper("--network", nets[1])
    for net in (nets[2], nets[0]):
        host.docker.docker("network", "connect", net, name)

    def inside() -> list[str]:
        shown = host.docker.out("exec", name, "ip", "-4", "-o", "addr", "show", "scope", "global")
        links = [" ".join(line.split()[1:4]) for line in shown.splitlines()]
        return sorted([*links, *host.docker.out("exec", name, "ip", "route").splitlines()])

    def delete() -> None:
        for link in host.links():
            subprocess.run(inside_of(host, "ip", "link", "del", link), check=True)

    def waiting() -> int:
        return host.netkit.netkit("net", "check", check=False).stdout.count("waits until docker")

    before = inside()
    assert [line.split()[0] for line in before if " inet " in line] == ["eth0", "eth1", "eth2"]
    delete()
    host.wait("three pairs are missed", lambda: waiting() == 3)
    assert inside() == []
    assert host.links() == []
    host.netkit.kill9()
    host.netkit.restart()
    assert host.links() == []
    api.symlink_to(host.docker.host.removeprefix("unix://"))
    other = host.docker.sleeper("--network", nets[0])  # netkitd asks dockerd for its name
    host.wait(f"{before}", lambda: inside() == before)
    host.named(name, other)
    ping(host, other, name)
    for link in (n for n in host.links() if n.startswith("veth")):
        host.netkit.kill9()
        subprocess.run(inside_of(host, "ip", "link", "del", link), check=True)
        host.netkit.restart()
        host.wait(f"{before} after a start", lambda: inside() == before)
    ping(host, other, name)
    assert "File exists" not in host.netkit.log_tail()


def inside_of(host: DockerHost, *argv: str) -> list[str]:
    return inside(host.netkit.netns, *argv)


def test_names_of_netkit_are_found_by_dockerds_resolver(host: DockerHost) -> None:
    net, more = create(host), create(host)
    one, two = (host.docker.sleeper("--network", net, "--dns", "127.0.0.12") for _ in range(2))
    host.docker.docker("network", "connect", more, one)
    host.named(one, two)
    (name,) = (n["Name"] for n in host.networks() if n["Labels"]["netkit.docker.name"] == net)
    host.wait("a name", lambda: host.docker.address(two, net) in host.docker.out(
        "exec", one, "nslookup", f"{two}.{name}", check=False))  # fmt: skip
    assert "updating names" not in host.netkit.log_tail()


def test_rules_and_traces_know_containers_by_name(host: DockerHost) -> None:
    one, two = create(host), create(host)
    web, shop = (host.docker.sleeper("--network", one) for _ in range(2))
    host.docker.docker("network", "connect", two, web)
    far = host.docker.sleeper("--network", two)
    host.named(web, shop, far)
    host.netkit.netkit("fw", "drop", "--src", shop, "--to", web)
    assert host.docker.docker("exec", shop, "ping", "-c1", "-W1", web, check=False).returncode
    why = host.netkit.netkit("fw", "explain", shop, web, "icmp", check=False).stdout
    assert "DROPPED" in why, why
    host.docker.docker("restart", "-t1", web)
    host.wait("the rule", lambda: "in force" in host.netkit.netkit("fw", "ls").stdout)
    assert host.docker.docker("exec", shop, "ping", "-c1", "-W1", web, check=False).returncode
    host.netkit.netkit("fw", "rm", host.netkit.netkit("fw", "ls", "-q").stdout.strip())
    ping(host, shop, web)
    for source in (shop, far):
        trace = host.netkit.netkit("net", "trace", source, web)
        assert "DELIVERED" in trace.stdout.upper(), trace.stdout
    assert web in host.netkit.netkit("fw", "show").stdout
    shown = host.netkit.netkit("net", "inspect", host.networks()[0]["Name"]).stdout
    assert '"Engine": "docker"' in shown
    assert host.netkit.netkit("net", "check").returncode == 0
    assert host.netkit.netkit("fw", "check").returncode == 0


def test_after_a_kill_of_netkitd_all_goes_on(host: DockerHost) -> None:
    net = create(host)
    one, two = (host.docker.sleeper("--network", net) for _ in range(2))
    host.named(one, two)
    before = host.networks()
    host.netkit.kill9()
    ping(host, one, two)
    host.netkit.restart()
    host.named(one, two)
    assert host.networks() == before
    ping(host, one, two)
    host.docker.docker("restart", "-t1", one)
    ping(host, two, one)


def test_after_a_kill_of_dockerd_it_is_as_dockerd_says(host: DockerHost) -> None:
    net = create(host)
    host.docker.up("--network", net, "--restart=always", "--stop-timeout=1", "busybox", "sleep",
                   "100000", name="always")  # fmt: skip
    host.docker.up("--network", net, "--stop-timeout=1", "busybox", "sleep", "100000", name="once")
    host.docker.kill9()
    host.restart_docker()
    host.docker.wait_for("always", "Running", True)
    host.named("always")
    assert len(host.links()) == 1


def test_with_live_restore_nothing_is_interrupted() -> None:
    with docker_host("--live-restore") as host:
        net = create(host)
        one, two = (host.docker.sleeper("--network", net) for _ in range(2))
        host.named(one, two)
        before, links = host.networks(), host.links()
        host.docker.kill9()
        host.restart_docker()
        host.netkit.kill9()
        host.netkit.restart()
        host.named(one, two)
        ping(host, one, two)
        assert (host.networks(), host.links()) == (before, links)
        host.docker.docker("stop", "-t1", one)
        host.wait("one is left", lambda: len(host.links()) == 1)


def test_a_container_that_was_removed_meanwhile(host: DockerHost) -> None:
    net = create(host)
    name = host.docker.sleeper("--network", net)
    host.netkit.kill9()
    with broken(host.plugins / "netkit-bridge.sock"), broken(host.plugins / "netkit.sock"):
        host.docker.docker("rm", "-f", name)
    assert host.links()
    host.netkit.restart()
    host.named()
    host.wait("its link is removed", lambda: not host.links())
    again = host.docker.sleeper("--network", net)
    assert host.docker.address(again, net) == "172.18.0.2"


class _Broken(BaseHTTPRequestHandler):
    """Fails whatever it is asked; without it dockerd waits 15 s for each call."""

    def do_POST(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self) -> str:
        return "dockerd"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def broken(path: Path) -> Iterator[None]:
    """A plugin that does not work, at the socket of one."""
    path.unlink()
    with UnixStreamServer(str(path), _Broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join()
    path.unlink()
