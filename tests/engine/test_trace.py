"""`netkit net trace` on one engine: output, exit status, and that it changes nothing."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from netkit.lab.probe import probe
from tests.engine import wire
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.test_networks import PAGE, WEB, get

pytestmark = netkit_only("dockerd has no `net trace`")
BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")


@pytest.fixture(params=BACKENDS)
def walled(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of its own with this firewall."""
    with alone(f"--firewall-backend={request.param}") as engine:
        yield engine


def code(engine: Engine, *args: str) -> str:
    return str(traced(engine, *args)["code"])


def traced(engine: Engine, *args: str) -> dict[str, Any]:
    """Run a trace; its exit status must agree with the verdict."""
    done = engine.netkit("net", "trace", "--format", "json", *args, check=False)
    assert not done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["verdict"] == "DELIVERED" else 1)
    return found


def test_it_says_the_same_with_every_firewall(walled: Engine) -> None:
    engine = walled
    engine.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "cells")
    engine.docker("network", "create", "--internal", "inner")
    web, mate = engine.up("-p", "8315:80", *WEB), engine.sleeper()
    one, two = engine.up("--network", "cells", *WEB), engine.sleeper("--network", "cells")
    shut = engine.up("--network", "inner", *WEB)
    assert get(engine, mate, f"http://{engine.address(web)}/") == PAGE
    near = wire.NEIGHBOUR
    for expected, args in (
        ("delivered", (mate, web, "tcp/80")),
        ("not-listening", (mate, web, "tcp/81")),
        ("delivered", ("host", web, "icmp")),
        ("delivered", (near, f"{wire.HOST}:8315", "tcp")),
        ("delivered", ("host", "127.0.0.1:8315", "tcp")),
        ("not-published", (near, web, "tcp/80")),
        ("icc-off", (two, one, "tcp/80")),
        ("internal-network", (mate, shut, "tcp/80")),
        ("beyond", (mate, near, "icmp")),
    ):
        assert code(engine, *args) == expected, args
    rule = engine.netkit("fw", "drop", "--src", mate, "--to", web).stdout.strip()
    assert code(engine, mate, web, "tcp/80") == "access-rule"
    output = engine.netkit("net", "trace", mate, web, "tcp/80", check=False).stdout
    fix = output.splitlines()[-1].split()
    assert fix[:-1] == ["fix:", "netkit", "fw", "rm"]
    assert rule.startswith(fix[-1])


def test_what_keeps_containers_apart_is_reported_with_a_command_that_helps(walled: Engine) -> None:
    engine = walled
    engine.docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "cells")
    routed = "com.docker.network.bridge.gateway_mode_ipv4=routed"
    engine.docker("network", "create", "-o", routed, "open")
    engine.docker("network", "create", "--internal", "inner")
    engine.up("-p", "8315:80", *WEB, name="web")
    for name in ("cells", "open", "inner"):
        engine.up("--network", name, *WEB, name=f"web-{name}")
    one, mate = engine.sleeper("--network", "cells"), engine.sleeper()
    near = f"/run/netns/{engine.wire.neighbour}"
    wire.ip("-n", engine.wire.neighbour, "route", "add", "172.16.0.0/12", "via", wire.HOST)
    for source, target, expected, fix in (
        (
            wire.NEIGHBOUR,
            "web",
            "not-published",
            "netkit fw accept --src 10.77.0.2 --to web --port",
        ),
        (
            wire.NEIGHBOUR,
            "web-open",
            "not-published",
            "netkit fw accept --src 10.77.0.2 --to web-o",
        ),
        (one, "web-cells", "icc-off", f"netkit fw accept --src {one} --to web-cells --port 80/tcp"),
        (mate, "web-cells", "not-published", f"netkit fw accept --src {mate} --to web-cells"),
        (mate, "web-inner", "internal-network", "netkit network connect bridge web-inner"),
    ):
        name = target.removeprefix("web-").replace("web", "bridge")
        found = traced(engine, source, target, "tcp/80")
        assert found["code"] == expected, found
        assert found["fix"].startswith(fix), found
        engine.netkit(*shlex.split(found["fix"], comments=True)[1:])
        assert code(engine, source, target, "tcp/80") == "delivered"
        address = engine.address(target, "bridge" if name == "inner" else name)
        if source == wire.NEIGHBOUR:
            assert probe(near, "tcp", address, 80).verdict == "open"
        else:
            assert get(engine, source, f"http://{address}/") == PAGE


def test_without_rules_of_netkits_the_one_to_add_by_hand_is_named() -> None:
    with alone("--iptables=false") as engine:
        engine.up("-p", "8315:80", *WEB, name="web")
        asked = (wire.NEIGHBOUR, f"{wire.HOST}:8315", "tcp")
        found = traced(engine, *asked)
        assert found["code"] == "not-translated"
        assert "--iptables=false" in found["words"]
        assert wire.run(engine.netns, *shlex.split(found["fix"])).returncode == 0
        assert code(engine, *asked) == "delivered"
        near = f"/run/netns/{engine.wire.neighbour}"
        assert probe(near, "tcp", wire.HOST, 8315).verdict == "open"
        assert code(engine, wire.NEIGHBOUR, "web", "tcp/80") == "delivered"
        explained = engine.netkit("fw", "explain", wire.NEIGHBOUR, "web:80").stdout
        assert "DELIVERED" in explained


def test_a_published_port_is_explained_also_where_it_is_published(engine: Engine) -> None:
    web = engine.up("-p", "8317:80", *WEB)
    for words in (("80/tcp",), ("tcp/80",), ("80",)):
        done = engine.netkit("fw", "explain", "world", web, *words, check=False)
        assert "\nDROPPED: " in done.stdout
        assert "note: published as HOST:8317/tcp: there DELIVERED, to container" in done.stdout
    done = engine.netkit("fw", "explain", "world", web, "8317", check=False)
    assert "ask for host:8317" in done.stdout
    assert engine.netkit("fw", "explain", "world", "host:8317").stdout.count("\nDELIVERED: ") == 1
    assert code(engine, "world", "host:8317") == "delivered"
    assert code(engine, "host", f"{web}:bridge:80") == "delivered"
    bare = traced(engine, "host", web, "8317")["words"]
    assert "as port 8317 of the host its port 80 is published" in bare


def test_the_world_is_asked_about_on_a_host_without_an_uplink(engine: Engine) -> None:
    web = engine.up("-p", "8318:80", *WEB)
    wire.ip("-n", engine.netns, "link", "set", "eth0", "down")
    wire.ip("-n", engine.netns, "addr", "flush", "dev", "eth0")
    try:
        done = engine.netkit("fw", "explain", "world", web, "80/tcp", check=False)
        assert "note: published as HOST:8318/tcp: there DELIVERED, to container" in done.stdout
        assert "asked as if packets came by one called uplink" in done.stdout
        assert code(engine, "world", web, "80") == "no-route"
    finally:
        wire.ip("-n", engine.netns, "addr", "add", f"{wire.HOST}/24", "dev", "eth0")
        wire.ip("-n", engine.netns, "link", "set", "eth0", "up")
        wire.ip("-n", engine.netns, "route", "add", "default", "via", wire.NEIGHBOUR)


def test_one_way_is_shown_in_lines_with_the_verdict_and_a_fix_at_the_end(engine: Engine) -> None:
    web, mate = engine.up(*WEB), engine.sleeper()
    done = engine.netkit("network", "trace", mate, web, "tcp/81", check=False)
    *_, verdict, fix = done.stdout.splitlines()
    assert verdict.startswith("REFUSED (not-listening): no process listens on port 81/tcp")
    assert fix.startswith("fix: ")
    assert "there:" in done.stdout
    assert "back:" in done.stdout


def test_namespaces_that_are_shared_and_containers_that_do_not_run(engine: Engine) -> None:
    web, mate = engine.up(*WEB), engine.sleeper()
    guest = engine.sleeper("--network", f"container:{web}")
    on_host = engine.sleeper("--network", "host")
    alone = engine.sleeper("--network", "none")
    assert code(engine, mate, engine.inspect(web)["Name"][1:], "tcp/80") == "delivered"
    assert code(engine, guest, "127.0.0.1", "tcp/80") == "delivered"
    assert code(engine, mate, guest, "tcp/80") == "delivered"
    assert code(engine, on_host, web, "tcp/80") == "delivered"
    assert code(engine, alone, web, "tcp/80") == "no-route"
    engine.docker("stop", "-t", "0", web)
    assert code(engine, mate, web, "tcp/80") == "container-not-running"
    found = traced(engine, guest, mate, "icmp")
    assert found["code"] == "container-not-running"
    for command in found["fix"].split(" && "):
        engine.netkit(*command.split()[1:])
    assert code(engine, guest, mate, "icmp") == "delivered"


def test_looking_changes_nothing(engine: Engine) -> None:
    web, mate = engine.up("-p", "8316:80", *WEB), engine.sleeper()

    def state() -> list[str]:
        commands = ("ip link", "ip neigh", "ip route show table all", "iptables-save",
                    "nft list ruleset", "cat /proc/net/ip_tables_names")  # fmt: skip
        outputs = [wire.run(engine.netns, *c.split()).stdout for c in commands]
        return [line for text in outputs for line in text.splitlines() if not line.startswith("#")]

    def plain() -> list[str]:
        lines = [line for line in state() if "counter" not in line and "[" not in line]
        return [line.partition(" lladdr ")[0] for line in lines]  # without a neighbour's age

    before, deadline = plain(), time.monotonic() + 60
    while True:  # IPv6 addresses of new links come a second or two later
        time.sleep(2.5)
        if (now := plain()) == before:
            break
        assert time.monotonic() < deadline
        before = now
    for args in ((mate, web, "tcp/80"), (wire.NEIGHBOUR, f"{wire.HOST}:8316", "tcp")):
        assert code(engine, *args) == "delivered"
    assert plain() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nobody", "host", "icmp"), "no container nobody"),
        (("host", "host", "sctp/1"), "follows tcp, udp and icmp, not sctp"),
        (("host", "127.0.0.1:80", "tcp/81"), "two ports"),
        (("host", "host", "icmp", "--via", "h2"), "HOST=URL"),
        (("host", "host", "icmp", "--format", "yaml"), "invalid format 'yaml'"),
        (("10.0.0.9@nowhere", "host", "icmp"), "no interface nowhere"),
    ],
)
def test_what_has_no_sense_is_refused_in_one_line(
    engine: Engine, args: tuple[str, ...], words: str
) -> None:
    done = engine.netkit("net", "trace", *args, check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_engine_that_cannot_be_asked_knows_no_container(engine: Engine) -> None:
    via = ("--via", "h2=unix:///nowhere.sock")
    done = engine.netkit("net", "trace", *via, "host", wire.NEIGHBOUR, "icmp", check=False)
    assert done.returncode == 1
    assert "UNDETERMINED" in done.stdout
    assert done.stderr.count("WARNING: the engine of h2 cannot be asked: ") == 1
    done = engine.netkit("net", "trace", *via, "nobody", "host", "icmp", check=False)
    assert done.returncode == 1
    assert "no container nobody" in done.stderr
