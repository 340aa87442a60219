"""Published ports: every form of -p and -P, and who can reach them."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.engine import wire
from tests.engine.daemon import KIND, Engine, fresh, netkit_only

WEB = ("busybox", "httpd", "-f", "-h", "/www")
PAGE = "hello from the engine"


def bindings(engine: Engine, name: str, port: str = "80/tcp") -> list[tuple[str, str]]:
    found = engine.inspect(name)["NetworkSettings"]["Ports"][port]
    return sorted((b["HostIp"], b["HostPort"]) for b in found or [] if ":" not in b["HostIp"])


def page(engine: Engine, address: str, *, netns: str | None = None) -> str | None:
    body = wire.fetch(netns or engine.netns, f"http://{address}/", timeout=2)
    return body.strip() if body is not None else None


def answers(engine: Engine, address: str, *, netns: str | None = None) -> None:
    assert wire.connected(netns or engine.netns, f"http://{address}/").strip() == PAGE


def test_a_published_port_is_reached_from_everywhere(engine: Engine) -> None:
    web = engine.up("-p", "8080:80", *WEB)
    answers(engine, "127.0.0.1:8080")
    answers(engine, f"{wire.HOST}:8080")
    answers(engine, "172.17.0.1:8080")
    answers(engine, f"{wire.HOST}:8080", netns=engine.wire.neighbour)
    client = engine.sleeper()
    for address in (f"{wire.HOST}:8080", "172.17.0.1:8080"):
        assert (
            engine.out("exec", client, "timeout", "3", "wget", "-qO-", f"http://{address}/") == PAGE
        )
    assert (
        engine.out("exec", web, "timeout", "3", "wget", "-qO-", f"http://{wire.HOST}:8080/") == PAGE
    )  # hairpin


def test_a_container_of_another_network_reaches_it(engine: Engine) -> None:
    net = fresh("n")
    engine.docker("network", "create", net)
    engine.up("--network", net, "-p", "8081:80", *WEB)
    client = engine.sleeper()
    assert (
        engine.out("exec", client, "timeout", "3", "wget", "-qO-", f"http://{wire.HOST}:8081/")
        == PAGE
    )


def test_a_port_is_closed_when_the_container_stops_and_open_when_it_starts(engine: Engine) -> None:
    web = engine.up("-p", "8082:80", *WEB)
    answers(engine, f"{wire.HOST}:8082", netns=engine.wire.neighbour)
    engine.docker("stop", "-t", "0", web)
    assert page(engine, f"{wire.HOST}:8082", netns=engine.wire.neighbour) is None
    assert page(engine, "127.0.0.1:8082") is None
    engine.docker("start", web)
    answers(engine, f"{wire.HOST}:8082", netns=engine.wire.neighbour)
    answers(engine, "127.0.0.1:8082")


def test_a_port_on_loopback_is_for_the_host_alone(engine: Engine) -> None:
    engine.up("-p", "127.0.0.1:8083:80", *WEB)
    answers(engine, "127.0.0.1:8083")
    assert page(engine, f"{wire.HOST}:8083") is None
    assert page(engine, f"{wire.HOST}:8083", netns=engine.wire.neighbour) is None


@netkit_only("it lets neighbours in (moby 45610, fixed in 28)")
def test_a_neighbour_cannot_reach_a_loopback_port_by_a_route(engine: Engine) -> None:
    engine.up("-p", "127.0.0.1:8084:80", *WEB)
    answers(engine, "127.0.0.1:8084")
    neighbour = engine.wire.neighbour
    wire.run(
        neighbour,
        "sysctl",
        "-qw",
        "net.ipv4.conf.all.route_localnet=1",
        "net.ipv4.conf.eth0.route_localnet=1",
    )
    wire.ip("-n", neighbour, "addr", "del", "127.0.0.1/8", "dev", "lo")
    try:
        wire.ip(
            "-n", neighbour, "route", "add", "127.0.0.1/32", "via", wire.HOST, "src", wire.NEIGHBOUR
        )
        assert page(engine, "127.0.0.1:8084", netns=neighbour) is None
    finally:
        subprocess.run(
            ["ip", "-n", neighbour, "route", "del", "127.0.0.1/32"],
            check=False,
            capture_output=True,
        )
        wire.ip("-n", neighbour, "addr", "add", "127.0.0.1/8", "dev", "lo")


def test_a_port_on_one_address_of_the_host(engine: Engine) -> None:
    web = engine.up("-p", f"{wire.HOST}:8085:80", *WEB)
    assert bindings(engine, web) == [(wire.HOST, "8085")]
    answers(engine, f"{wire.HOST}:8085", netns=engine.wire.neighbour)
    assert page(engine, "127.0.0.1:8085") is None


@pytest.mark.parametrize("spec", ["80", "127.0.0.1::80", "0.0.0.0::80"])
def test_a_free_host_port_is_chosen(engine: Engine, spec: str) -> None:
    web = engine.up("-p", spec, *WEB)
    ((_, port),) = bindings(engine, web)
    assert int(port) >= 1024
    answers(engine, f"127.0.0.1:{port}")


def test_ranges(engine: Engine) -> None:
    web = engine.up("-p", "8090-8092:80-82", *WEB)
    assert bindings(engine, web, "81/tcp") == [("0.0.0.0", "8091")]
    answers(engine, "127.0.0.1:8090")


def test_the_first_free_of_a_range_of_host_ports(engine: Engine) -> None:
    made = [engine.up("-p", "8093-8095:80", *WEB) for _ in range(3)]
    assert sorted(bindings(engine, name)[0][1] for name in made) == ["8093", "8094", "8095"]
    done = engine.docker("run", "-d", "-p", "8093-8095:80", *WEB, check=False)
    assert done.returncode == 125
    assert "allocated" in done.stderr


def test_one_container_port_on_several_host_ports(engine: Engine) -> None:
    web = engine.up("-p", "8096:80", "-p", "127.0.0.1:8097:80", *WEB)
    assert bindings(engine, web) == [("0.0.0.0", "8096"), ("127.0.0.1", "8097")]
    answers(engine, "127.0.0.1:8096")
    answers(engine, "127.0.0.1:8097")


# Busybox has no UDP server: the host's python answers from inside the container.
PYTHON = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 53))
while True:
    data, client = s.recvfrom(999)
    s.sendto(client[0].encode() + b" said " + data, client)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
for _ in range(20):
    s.sendto(b"ping", (sys.argv[1], 8098))
    try:
        print(s.recv(999).decode())
        break
    except (TimeoutError, ConnectionError):
        pass
"""


def test_udp_from_the_neighbour_and_from_the_host(engine: Engine) -> None:
    engine.up("-p", "8098:53/udp", *PYTHON, "busybox", "/usr/bin/python3", "-c", ECHO)
    asked = wire.run(engine.wire.neighbour, sys.executable, "-c", ASK, wire.HOST)
    assert asked.stdout.strip() == f"{wire.NEIGHBOUR} said ping"
    assert wire.run(engine.netns, sys.executable, "-c", ASK, "127.0.0.1").stdout.endswith(
        "said ping\n"
    )


def test_a_taken_port_is_refused_and_the_container_can_start_later(engine: Engine) -> None:
    first = engine.up("-p", "8099:80", *WEB)
    second = fresh("c")
    done = engine.docker("run", "-d", "--name", second, "-p", "8099:80", *WEB, check=False)
    assert done.returncode == 125
    assert "8099" in done.stderr
    assert "port is already allocated" in done.stderr
    if KIND == "netkitd":
        assert f"already allocated (by container {first})" in done.stderr
    assert engine.state(second)["Status"] == "created"
    engine.docker("rm", "-f", first)
    engine.docker("start", second)
    answers(engine, "127.0.0.1:8099")


def test_a_port_another_program_listens_on_is_refused(engine: Engine) -> None:
    echo = wire.Echo(engine.netns, wire.HOST, 8100)
    try:
        done = engine.docker("run", "-d", "-p", "8100:80", *WEB, check=False)
        assert done.returncode == 125
        assert "8100" in done.stderr
        assert re.search("already in use|already allocated", done.stderr)
        if KIND == "netkitd":
            assert re.search(r"address already in use \(by python[\d.]*, pid \d+\)", done.stderr)
    finally:
        echo.close()


def test_publish_all_exposed_ports(engine: Engine) -> None:
    image = fresh("img")
    engine.load_image(image, changes=["EXPOSE 80/tcp", "EXPOSE 53/udp"])
    web = engine.up("-P", "--expose", "81", image, *WEB[1:])
    ports = engine.inspect(web)["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "81/tcp", "53/udp"}
    assert all(ports.values())
    answers(engine, f"127.0.0.1:{bindings(engine, web)[0][1]}")


def test_exposed_ports_are_shown_but_not_published(engine: Engine) -> None:
    web = engine.up("--expose", "80", *WEB)
    assert engine.inspect(web)["NetworkSettings"]["Ports"] == {"80/tcp": None}


def test_requested_and_actual_ports_are_both_in_inspect(engine: Engine) -> None:
    web = engine.up("-p", "80", *WEB)
    requested = engine.inspect(web)["HostConfig"]["PortBindings"]
    assert requested == {"80/tcp": [{"HostIp": "", "HostPort": ""}]}
    assert bindings(engine, web)[0][0] == "0.0.0.0"


@netkit_only("it runs a docker-proxy for each port")
def test_no_process_per_published_port(engine: Engine) -> None:
    def processes() -> int:
        pids = subprocess.run(
            ["ps", "-e", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout
        return sum(str(engine.folder) in line for line in pids.splitlines())

    few = engine.up("-p", "8110:80", *WEB)
    before = processes()
    engine.docker("rm", "-f", few)
    engine.up("-p", "8110-8149:8110-8149", *WEB)
    assert processes() <= before


def test_many_ports_of_one_container_are_published_and_removed(engine: Engine) -> None:
    web = engine.up("-p", "9000-9099:9000-9099", "-p", "8150:80", *WEB)
    answers(engine, "127.0.0.1:8150")
    rules = wire.run(
        engine.netns, "sh", "-c", "iptables-save; iptables-legacy-save; nft list ruleset"
    ).stdout
    assert "9042" in rules or re.search("900[0-9]", rules)
    engine.docker("rm", "-f", web)
    rules = wire.run(
        engine.netns, "sh", "-c", "iptables-save; iptables-legacy-save; nft list ruleset"
    ).stdout
    assert "9042" not in rules


def test_the_client_s_address_is_kept(engine: Engine) -> None:
    """A neighbour is seen as itself, not as the gateway."""
    web = engine.up("-p", "8151:80", "busybox", "httpd", "-f", "-vv", "-h", "/www")
    answers(engine, f"{wire.HOST}:8151", netns=engine.wire.neighbour)
    logs = engine.docker("logs", web)
    assert wire.NEIGHBOUR in logs.stdout + logs.stderr


def test_ports_in_the_api(engine: Engine) -> None:
    engine.up("-p", "127.0.0.1:8152:80", *WEB)
    (row,) = engine.client.api.containers()
    assert row["Ports"] == [
        {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8152, "Type": "tcp"}
    ]


def test_an_unpublished_port_is_not_reachable_from_the_neighbour(engine: Engine) -> None:
    web = engine.up(*WEB)
    address = engine.address(web)
    wire.ip("-n", engine.wire.neighbour, "route", "add", "172.17.0.0/16", "via", wire.HOST)
    try:
        if engine.kind == "dockerd":
            pytest.skip("not so in dockerd: direct routing was closed in 28")
        assert page(engine, address, netns=engine.wire.neighbour) is None
    finally:
        wire.ip("-n", engine.wire.neighbour, "route", "del", "172.17.0.0/16")


def test_rules_of_the_administrator_survive(engine: Engine) -> None:
    rule = (
        "FORWARD",
        "-s",
        "198.51.100.7",
        "-m",
        "comment",
        "--comment",
        "placed by hand",
        "-j",
        "DROP",
    )
    assert wire.run(engine.netns, "iptables", "-I", *rule).returncode == 0
    try:
        web = engine.up("-p", "8153:80", *WEB)
        engine.docker("rm", "-f", web)
        saved = wire.run(engine.netns, "iptables-save", "-t", "filter").stdout
        assert saved.count("placed by hand") == 1
    finally:
        wire.run(engine.netns, "iptables", "-D", *rule)


def test_ps_and_json_agree(engine: Engine) -> None:
    engine.up("-p", "8154:80", *WEB)
    row = json.loads(engine.out("ps", "--format", "json"))
    assert row["Ports"].startswith("0.0.0.0:8154->80/tcp")
