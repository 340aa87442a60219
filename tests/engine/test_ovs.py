"""The ovs driver through a real daemon: created, inspected, used and removed with docker's CLI."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.lab.openvswitch import DATABASE, SWITCH, OpenVSwitch
from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import Wire
from tests.first_contact import lost

pytestmark = [
    netkit_only("the ovs driver"),
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]

SLEEP = ("busybox", "sleep", "300")


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, OpenVSwitch]]:
    laid = Wire.lay()
    vswitch = OpenVSwitch(f"/run/netns/{laid.host}", tmp_path_factory.mktemp("ovs"))
    try:
        vswitch.start()
        engine = Engine(laid, flags=("--ovs-db", vswitch.remote))
        try:
            engine.start()
            engine.load_image()
            yield engine, vswitch
        finally:
            engine.destroy()
    finally:
        vswitch.remove()
        laid.remove()


def pings(engine: Engine, name: str, target: str) -> bool:
    argv = ("exec", name, "ping", "-c", "1", "-W", "1", target)
    deadline = time.monotonic() + 30
    while engine.docker(*argv, check=False).returncode != 0:
        if time.monotonic() > deadline:
            return False
    return True


def repaired(engine: Engine, what: str) -> None:
    deadline = time.monotonic() + 60
    while engine.netkit("net", "check", check=False).returncode:
        assert time.monotonic() < deadline, (what, engine.log_tail())
        time.sleep(0.2)


def create(engine: Engine, *options: str) -> None:
    words = [word for option in options for word in ("-o", option)]
    engine.docker(
        "network", "create", "--driver", "ovs", "--subnet", "192.168.1.0/24", *words, "mynet"
    )


def test_a_network_of_the_ovs_driver_lives_and_goes(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, vswitch = switched
    create(engine, f"peers={wire.NEIGHBOUR}")
    inspected = json.loads(engine.out("network", "inspect", "mynet"))[0]
    assert (inspected["Driver"], inspected["Options"]) == ("ovs", {"peers": wire.NEIGHBOUR})
    assert f'remote_ip="{wire.NEIGHBOUR}"' in vswitch.vsctl("show")
    assert "type: gre" in vswitch.vsctl("show")
    (peer,) = inspected["Peers"]  # the neighbour has no Open vSwitch: no answer comes from it
    assert (peer["IP"], peer["State"]) == (wire.NEIGHBOUR, "down")
    for name, extra in (("one", ("-p", "8080:80")), ("two", ())):
        engine.docker(
            "run", "-d", "--name", name, "--network", "mynet", *extra,
            "busybox", "httpd", "-f", "-h", "/www",
        )  # fmt: skip
    assert pings(engine, "one", "two")
    assert pings(engine, "one", "192.168.1.1")
    assert pings(engine, "two", wire.WORLD)
    page = subprocess.run(
        wire.inside(engine.wire.neighbour, "curl", "-sf", f"http://{wire.HOST}:8080/"),
        capture_output=True,
        text=True,
    )
    assert page.returncode == 0
    found = engine.inspect("one")["NetworkSettings"]
    pair = f"nkv{found['Networks']['mynet']['EndpointID'][:12]}"
    bridge = next(b for b in vswitch.vsctl("list-br").split() if b.startswith("nko"))
    for at, command in (
        ("", f"link del {pair}"), ("", f"link set {bridge} down"), ("", f"link del {bridge}"),
        ("", f"addr del 192.168.1.1/24 dev {bridge}"), (found["SandboxKey"], "route del default"),
        ("", f"link set {bridge} name foo"), ("", f"link set {pair} name foo"),
        ("", f"link set {pair} netns {engine.wire.neighbour}"), ("", f"link set {bridge} mtu 1300"),
    ):  # fmt: skip
        argv = ["nsenter", f"--net={at or f'/run/netns/{engine.netns}'}", "ip", *command.split()]
        subprocess.run(argv, check=True, timeout=30)
        repaired(engine, command)
        assert pings(engine, "one", wire.WORLD)
    engine.docker("rm", "-f", "one", "two")
    ports = vswitch.vsctl("list-ports", vswitch.vsctl("list-br").split()[0]).split()
    assert not any(p.startswith("nkv") for p in ports)
    engine.docker("network", "rm", "mynet")
    assert vswitch.vsctl("list-br").split() == ["nku0"]


def test_a_tunnel_is_called_dead_only_once_it_had_time_to_come_up(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, _ = switched
    create(engine, f"peers={wire.NEIGHBOUR}")  # which has no Open vSwitch
    engine.docker("run", "-d", "--name", "lone", "--network", "mynet", *SLEEP)
    asked = ("net", "trace", "lone", "192.168.1.77", "icmp")
    found = engine.netkit(*asked, check=False).stdout
    assert "UNDETERMINED" in found, found
    assert "BFD down" in found, found
    begin = time.monotonic()
    while "LOST (tunnel-down)" not in (found := engine.netkit(*asked, check=False).stdout):
        assert "UNDETERMINED" in found, found
        assert time.monotonic() - begin < 20, found
        time.sleep(0.5)
    engine.docker("rm", "-f", "lone")
    engine.docker("network", "rm", "mynet")


def test_containers_stay_connected_while_the_daemon_is_killed_and_comes_back(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, vswitch = switched
    create(engine)
    try:
        for name in ("one", "two"):
            engine.docker(
                "run", "-d", "--name", name, "--network", "mynet", "busybox", "sleep", "300"
            )
        engine.kill9()
        bridge = next(b for b in vswitch.vsctl("list-br").split() if b.startswith("nko"))
        vswitch.ofctl("del-flows", bridge)  # no daemon repairs it now
        engine.start()
        assert pings(engine, "one", "two")
        engine.docker("stop", "-t", "0", "two")
        engine.docker("start", "two")
        assert pings(engine, "one", "two")
    finally:
        engine.docker("rm", "-f", "one", "two", check=False)
        engine.docker("network", "rm", "mynet", check=False)


def test_the_first_packets_of_a_container_are_not_lost(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, _ = switched
    create(engine)
    try:
        assert lost(engine.host, engine.host, "mynet") == (0, 0)
    finally:
        engine.docker("network", "rm", "mynet")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("peer=10.0.0.1", "did you mean peers?"),
        ("peers=somewhere", "use IPv4 addresses"),
        ("tunnel=grev", "use gre, vxlan, geneve"),
        ("key=0", "invalid value '0' for option key"),
        ("mode=l3", "use l2, routed"),
        ("routes=192.168.2.0/24=10.0.0.9", "routes is for mode=routed"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    switched: tuple[Engine, OpenVSwitch], option: str, words: str
) -> None:
    engine, _ = switched
    done = engine.docker("network", "create", "--driver", "ovs", "-o", option, "bad", check=False)
    assert done.returncode == 1
    assert words in done.stderr


def test_without_open_vswitch_the_refusal_says_what_is_missing(
    tmp_path: Path, session_engine: Engine
) -> None:
    done = session_engine.docker("network", "create", "--driver", "ovs", "bad", check=False)
    assert done.returncode == 1
    assert "is ovsdb-server running?" in done.stderr
    assert "bad" not in session_engine.out("network", "ls")


def test_a_daemon_that_comes_before_open_vswitch_starts_and_heals_later(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, vswitch = switched
    create(engine)
    try:
        run = ("run", "-d", "busybox", "sleep", "300")
        for name, network in (("one", "mynet"), ("two", "mynet"), ("three", "bridge")):
            engine.docker(*run[:2], "--name", name, "--network", network, *run[2:])
        engine.kill9()
        vswitch.stop()
        engine.start()
        assert engine.docker("exec", "three", "ping", "-c", "1", "-W", "1", "172.17.0.1")
        done = engine.docker(
            "run", "-d", "--name", "four", "--network", "mynet", "busybox", check=False
        )
        assert "Open vSwitch" in done.stderr or "ovs-vswitchd" in done.stderr
        assert engine.docker("run", "--rm", "busybox", "true").returncode == 0
        vswitch.start()
        assert pings(engine, "one", "two")
    finally:
        engine.docker("rm", "-f", "one", "two", "three", "four", check=False)
        engine.docker("network", "rm", "mynet", check=False)


def test_rules_on_who_may_reach_whom_hold_between_neighbours(
    switched: tuple[Engine, OpenVSwitch],
) -> None:
    engine, vswitch = switched
    create(engine)

    def gets(name: str, port: int = 80) -> bool:
        asked = ("exec", name, "nc", "-w", "2", "192.168.1.2", f"{port}")
        return engine.docker(*asked, check=False).returncode == 0

    def flows() -> list[str]:
        bridge = next(b for b in vswitch.vsctl("list-br").split() if b.startswith("nko"))
        found = vswitch.ofctl("dump-flows", bridge).splitlines()
        return [f for f in found if "priority=60000" in f]

    try:
        serve = "httpd -p 81 -h /www; exec httpd -f -h /www"
        for name in ("one", "two", "three"):
            engine.docker("run", "-d", "--name", name, "--network", "mynet",
                          "busybox", "sh", "-c", serve)  # fmt: skip
        assert engine.address("one", "mynet") == "192.168.1.2"
        for name in ("two", "three"):
            assert pings(engine, name, "one")
            assert gets(name)
        made = engine.netkit("fw", "drop", "--src", "two", "--to", "one", "--port", "80/tcp")
        assert made.stderr == ""
        assert (gets("two"), gets("two", 81), gets("three")) == (False, True, True)
        engine.docker("restart", "-t", "0", "two")  # perhaps with another address
        assert (gets("two"), gets("two", 81)) == (False, True)
        everybody = engine.netkit("fw", "drop", "--to", "one").stdout.split()[0]
        engine.netkit("fw", "accept", "--first", "--src", "three", "--to", "one")
        assert (gets("two", 81), gets("three", 81)) == (False, True)
        engine.kill9()
        engine.restart()
        assert (gets("two", 81), gets("three", 81)) == (False, True)
        engine.netkit("fw", "rm", everybody)
        assert (gets("two"), gets("two", 81), gets("three")) == (False, True, True)
        assert flows()
        engine.docker("rm", "-f", "one")
        assert not flows()
    finally:
        engine.docker("rm", "-f", "one", "two", "three", check=False)
        engine.docker("network", "rm", "mynet", check=False)


@pytest.mark.parametrize("down", [(DATABASE,), (SWITCH,), (DATABASE, SWITCH)], ids="+".join)
def test_what_goes_while_open_vswitch_is_down_goes_and_nothing_is_left_when_it_is_back(
    switched: tuple[Engine, OpenVSwitch], down: tuple[str, ...]
) -> None:
    engine, vswitch = switched
    create(engine)
    engine.docker("network", "create", "--driver", "ovs", "--subnet", "192.168.2.0/24", "other")
    homes = {"one": "mynet", "two": "mynet", "left": "mynet", "kept": "mynet", "alone": "other"}
    try:
        for name, network in homes.items():
            engine.docker("run", "-d", "--name", name, "--network", network, *SLEEP)
        engine.docker("run", "-d", "--rm", "--name", "brief", "--network", "mynet", *SLEEP)
        engine.docker("network", "connect", "bridge", "left")
        for program in down:
            vswitch.kill(program)
        engine.docker("rm", "-f", "one", "alone")
        engine.docker("stop", "-t", "0", "two")
        engine.docker("kill", "brief")
        engine.docker("network", "disconnect", "mynet", "left")
        engine.docker("network", "rm", "other")
        begin = time.monotonic()
        done = engine.docker("start", "two", check=False)
        assert done.returncode == 1
        assert "Open vSwitch" in done.stderr or "ovs-vswitchd" in done.stderr
        assert time.monotonic() - begin < 15
        deadline = time.monotonic() + 60
        names = "ps", "-a", "--format", "{{.Names}}"
        while sorted(engine.out(*names).split()) != ["kept", "left", "two"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        vswitch.start()
        deadline = time.monotonic() + 60
        while (have := settled(engine, vswitch)) != (1, 1, 1, 1):
            assert time.monotonic() < deadline, (have, engine.log_tail())
            time.sleep(0.2)
        engine.docker("start", "two")
        assert pings(engine, "two", "kept")
    finally:
        engine.docker("rm", "-f", *homes, "brief", check=False)
        engine.docker("network", "rm", "mynet", "other", check=False)


def settled(engine: Engine, vswitch: OpenVSwitch) -> tuple[int, ...]:
    """Return `remains`, or nothing where a bridge was swept meanwhile."""
    try:
        return remains(engine, vswitch)
    except RuntimeError:
        return ()


def remains(engine: Engine, vswitch: OpenVSwitch) -> tuple[int, int, int, int]:
    """Count bridges of networks, containers' ports, ports with flows, and links."""
    bridges = [b for b in vswitch.vsctl("list-br").split() if b.startswith("nko")]
    ports = [p for b in bridges for p in vswitch.vsctl("list-ports", b).split()]
    flows = "".join(vswitch.ofctl("dump-flows", b) for b in bridges)
    links = wire.run(engine.netns, "ip", "-br", "link").stdout.split()
    return (
        len(bridges),
        sum(p.startswith("nkv") for p in ports),
        len(set(re.findall(r"in_port=(?!LOCAL)[^, ]+", flows))),
        sum(word.startswith("nkv") for word in links),
    )
