"""The three firewall back ends behave alike, and one daemon may go from any to any other."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests import oracle
from tests.engine import wire
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.test_networks import PAGE, WEB, get
from tests.engine.wire import WORLD, Echo

pytestmark = netkit_only("dockerd 20.10 has one back end")
BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")


def with_backend(engine: Engine, name: str) -> None:
    kept = [f for f in engine.flags if "firewall" not in f]
    engine.flags = (*kept, f"--firewall-backend={name}")
    engine.restart()


def driver(engine: Engine) -> str:
    return str(json.loads(engine.out("info", "-f", "{{json .FirewallBackend}}"))["Driver"])


def marks(engine: Engine) -> dict[str, int]:
    """Count lines tagged with our owner mark, by back end."""
    dumps = {
        "iptables-nft": ("iptables-nft-save",),
        "iptables-legacy": ("iptables-legacy-save",),
        "nftables": ("nft", "list", "tables"),
    }
    found = {}
    for name, argv in dumps.items():
        text = wire.run(engine.netns, *argv).stdout
        found[name] = text.count("netkit:") + text.count("table ip netkit")
    return found


@pytest.fixture(params=BACKENDS)
def backed(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with alone(f"--firewall-backend={request.param}") as engine:
        yield engine


def test_a_weave_network_and_one_inside_of_its_subnet_are_both_exposed(backed: Engine) -> None:
    e, seen = backed, {}
    with closing(Echo(e.wire.neighbour, WORLD, 80)):
        for name, subnet, port in (("weave", "10.32.0.0/12", 8481), ("lane", "10.40.0.0/16", 8482)):
            gateway = f"{subnet.rpartition('.')[0]}.1"
            e.out("network", "create", "-d", "weave", "-o", "expose=true", "--subnet", subnet,
                  "--gateway", gateway, name)  # fmt: skip
            web = e.up("--network", name, "-p", f"{port}:80", *WEB)
            wire.connected(e.wire.neighbour, f"http://{wire.HOST}:{port}/")
            seen[name] = e.out("exec", web, "wget", "-qO-", f"http://{WORLD}/").strip()
    assert seen == {"weave": wire.HOST, "lane": wire.HOST}
    assert e.netkit("fw", "check", check=False).returncode == 0


def test_ports_rules_links_and_a_kill(backed: Engine) -> None:
    e = backed
    assert driver(e) in e.flags[0]
    assert {k for k, n in marks(e).items() if n} == {driver(e)}
    before = oracle.snapshot(e)
    ports = ("-p", "8400:80", "-p", "127.0.0.1:8401:80", "-p", "8500-8503:80-83")
    web, client = e.up(*ports, *WEB), e.sleeper()

    def check() -> None:
        wire.connected(e.wire.neighbour, f"http://{wire.HOST}:8400/")
        wire.connected(e.wire.neighbour, f"http://{wire.HOST}:8500/")
        wire.connected(e.netns, "http://127.0.0.1:8400/")
        wire.connected(e.netns, "http://127.0.0.1:8401/")
        assert wire.fetch(e.wire.neighbour, f"http://{wire.HOST}:8401/", timeout=1) is None
        assert get(e, client, f"http://{wire.HOST}:8400/") == PAGE
        assert get(e, client, f"http://{e.address(web)}/") == PAGE

    check()
    rule = e.netkit("fw", "drop", "--src", wire.NEIGHBOUR, "--to", web, "--published", "8400")
    assert wire.fetch(e.wire.neighbour, f"http://{wire.HOST}:8400/", timeout=1) is None
    wire.connected(e.wire.neighbour, f"http://{wire.HOST}:8500/")
    e.netkit("fw", "rm", rule.stdout.strip())
    many = ",".join(f"198.51.100.{n}" for n in range(40)) + f",{wire.NEIGHBOUR}"
    rule = e.netkit("fw", "drop", "--src", many, "--to", web)
    assert wire.fetch(e.wire.neighbour, f"http://{wire.HOST}:8500/", timeout=1) is None
    e.netkit("fw", "rm", rule.stdout.strip())
    e.kill9()
    e.restart()
    check()
    assert e.netkit("fw", "check").returncode == 0
    e.docker("rm", "-f", web, client)
    e.forget_client()
    oracle.assert_clean(before, lambda: oracle.snapshot(e), ignore=("descriptors",))


def test_links_without_icc(backed: Engine) -> None:
    e = backed
    e.stop()
    e.flags = (*e.flags, "--icc=false")
    e.restart()
    db = e.up("--expose", "80", *WEB)
    app, stranger = e.sleeper("--link", f"{db}:db"), e.sleeper()
    assert get(e, app, "http://db/") == PAGE
    assert get(e, stranger, f"http://{e.address(db)}/", timeout=1) is None
    e.netkit("fw", "accept", "--src", stranger, "--to", db, "--port", "80")
    assert get(e, stranger, f"http://{e.address(db)}/") == PAGE


def test_a_flushed_ruleset_is_back_within_two_seconds(backed: Engine) -> None:
    e = backed
    e.up("-p", "8400:80", *WEB)
    before = marks(e)[driver(e)]
    tool = e.flags[0].partition("=")[2]
    for argv in (
        [("nft", "flush", "ruleset")] if tool != "iptables-legacy"
        else [(tool, "-F"), (tool, "-t", "nat", "-F"), (tool, "-t", "raw", "-F")]
    ):  # fmt: skip
        assert wire.run(e.netns, *argv).returncode == 0
    deadline = time.monotonic() + 2
    while marks(e)[driver(e)] != before:
        assert time.monotonic() < deadline, e.log_tail()
        time.sleep(0.05)
    wire.connected(e.wire.neighbour, f"http://{wire.HOST}:8400/")


def test_a_daemon_goes_from_any_back_end_to_any_other(own_engine: Engine) -> None:
    """The container runs on, its port stays published; nothing of the former back end is left."""
    e = own_engine
    e.stop()
    with_backend(e, BACKENDS[0])
    e.up("-p", "8400:80", *WEB)
    nft, legacy, native = BACKENDS
    route = [legacy, native, nft, native, legacy, nft]  # every one after every other
    assert set(itertools.pairwise([nft, *route])) == set(itertools.permutations(BACKENDS, 2))
    for name in route:
        e.kill9()
        with_backend(e, name)
        assert driver(e) == name
        wire.connected(e.wire.neighbour, f"http://{wire.HOST}:8400/")
        assert {k for k, n in marks(e).items() if n} == {name}
    e.kill9()
    e.flags = (*e.flags, "--iptables=false")
    e.restart()
    assert driver(e) == "none"
    assert not any(marks(e).values())
