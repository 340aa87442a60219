"""Without icc a container reaches its own published port, whatever happens to filter and bridge."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.test_networks import PAGE, WEB, get

pytestmark = netkit_only("dockerd has no filter at bridge ports")
BRIDGED = "net.bridge.bridge-nf-call-iptables=1"
URL = f"http://{wire.HOST}:8318/"
FOREIGN = "pref 40000 protocol ip u32 match u32 0 0 classid 1:1"  # of another tool


def sh(engine: Engine, *lines: str) -> None:
    done = wire.run(engine.netns, "sh", "-ec", "\n".join(lines))
    assert done.returncode == 0, done.stderr


def port(engine: Engine, bridge: str) -> str:
    """Return the only port of the bridge."""
    found = wire.run(engine.netns, "ip", "-j", "link", "show", "master", bridge).stdout
    (link,) = json.loads(found or "[]")
    return str(link["ifname"])


def filters(engine: Engine, dev: str) -> list[tuple[int, str]]:
    """Return (preference, kind) of filters at the port's ingress; u32 also lists its tables."""
    found = wire.run(engine.netns, "tc", "-j", "filter", "show", "dev", dev, "ingress").stdout
    return sorted({(f["pref"], f["kind"]) for f in json.loads(found or "[]")})


def shown(engine: Engine, dev: str) -> str:
    return wire.run(engine.netns, "tc", "filter", "show", "dev", dev, "ingress").stdout


@pytest.mark.parametrize("own_engine", [("--icc=false",)], indirect=True, ids=["icc=false"])
def test_a_deleted_filter_comes_back_whatever_its_bridge_is(
    own_engine: Engine,
) -> None:
    e = own_engine
    sh(e, f"sysctl -qw {BRIDGED}")
    web = e.up("-p", "8318:80", *WEB)
    dev, ours = port(e, "docker0"), (28267, "bpf")

    def check(*more: tuple[int, str]) -> None:
        assert e.netkit("fw", "check").returncode == 0
        assert filters(e, dev) == [ours, *more]
        assert shown(e, dev).count("netkit:") == 1
        key = e.inspect(web)["NetworkSettings"]["SandboxKey"]
        sh(e, f"nsenter --net={key} ip neigh flush dev eth0")
        assert get(e, web, URL) == PAGE

    check()
    sh(e, f"tc qdisc del dev {dev} clsact", f"tc qdisc add dev {dev} clsact",
       f"tc filter add dev {dev} ingress {FOREIGN}")  # fmt: skip
    e.netkit("fw", "repair")
    check((40000, "u32"))
    sh(e, "ip link set docker0 address 02:42:00:00:00:99")
    e.netkit("fw", "repair")
    check((40000, "u32"))
    for command, left in (
        ("ip link del docker0", [(40000, "u32")]),
        (f"tc qdisc del dev {dev} clsact", []),  # as a version that knew no filters left it
    ):
        e.kill9()
        sh(e, command)
        e.restart()
        check(*left)


@pytest.fixture
def adopting() -> Iterator[Engine]:
    """An engine on a bridge of the administrator's that has no NIC."""

    def prepare(engine: Engine) -> None:
        sh(engine, "ip link add br0 type bridge", "ip addr add 10.78.0.1/24 dev br0",
           "ip link set br0 up", f"sysctl -qw {BRIDGED}")  # fmt: skip

    with alone("-b", "br0", "--icc=false", prepare=prepare) as engine:
        yield engine


@pytest.mark.root
@pytest.mark.engine
def test_an_adopted_bridge_keeps_the_address_that_its_containers_know(adopting: Engine) -> None:
    e = adopting
    web = e.up("-p", "8318:80", *WEB)
    assert get(e, web, URL) == PAGE
    for _ in range(3):
        other = e.sleeper()
        assert get(e, web, URL) == PAGE
    e.docker("rm", "-f", other)
    assert get(e, web, URL) == PAGE
    assert e.netkit("fw", "check").returncode == 0
