"""`netkit net trace` on one engine: what it says, its exit status, and that it only looks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

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
    """The reason code; the exit status must go with the verdict."""
    done = engine.netkit("net", "trace", "--format", "json", *args, check=False)
    assert not done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["verdict"] == "DELIVERED" else 1)
    return str(found["code"])


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
    told = engine.netkit("net", "trace", mate, web, "tcp/80", check=False).stdout
    fix = told.splitlines()[-1].split()
    assert fix[:-1] == ["fix:", "netkit", "fw", "rm"]
    assert rule.startswith(fix[-1])


def test_one_way_is_told_in_lines_with_the_verdict_and_a_fix_at_the_end(engine: Engine) -> None:
    web, mate = engine.up(*WEB), engine.sleeper()
    done = engine.netkit("network", "trace", mate, web, "tcp/81", check=False)
    *_, verdict, fix = done.stdout.splitlines()
    assert verdict.startswith("REFUSED (not-listening): nobody listens on port 81/tcp")
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
    assert code(engine, guest, mate, "icmp") == "container-not-running"


def test_looking_changes_nothing(engine: Engine) -> None:
    web, mate = engine.up("-p", "8316:80", *WEB), engine.sleeper()

    def state() -> list[str]:
        commands = ("ip link", "ip neigh", "ip route show table all", "iptables-save",
                    "nft list ruleset", "cat /proc/net/ip_tables_names")  # fmt: skip
        said = [wire.run(engine.netns, *c.split()).stdout for c in commands]
        return [line for text in said for line in text.splitlines() if not line.startswith("#")]

    def plain() -> list[str]:
        lines = [line for line in state() if "counter" not in line and "[" not in line]
        return [line.partition(" lladdr ")[0] for line in lines]  # without a neighbour's age

    before, deadline = plain(), time.monotonic() + 20
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
        (("host", "host", "sctp/1"), "invalid service 'sctp/1'"),
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


def test_an_engine_that_cannot_be_asked_knows_nobody(engine: Engine) -> None:
    via = ("--via", "h2=unix:///nowhere.sock")
    done = engine.netkit("net", "trace", *via, "host", wire.NEIGHBOUR, "icmp", check=False)
    assert done.returncode == 1
    assert "UNDETERMINED" in done.stdout
    assert done.stderr.count("WARNING: the engine of h2 cannot be asked: ") == 1
    done = engine.netkit("net", "trace", *via, "nobody", "host", "icmp", check=False)
    assert done.returncode == 1
    assert "no container nobody" in done.stderr
