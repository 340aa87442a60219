"""Who may reach whom, by hand and by `netkit fw`: with real containers and real packets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.test_networks import PAGE, WEB, get

pytestmark = netkit_only("dockerd has no `fw`")
BRIDGED = "net.bridge.bridge-nf-call-iptables"


@pytest.fixture(params=["1", "0"], ids=["bridges filtered", "bridges not filtered"])
def anywhere(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Engine]:
    """Whatever the host's setting for all bridges is: it is not ours to rely on or to change."""
    before = wire.run(engine.netns, "sysctl", "-n", BRIDGED).stdout.strip()
    wire.run(engine.netns, "sysctl", "-qw", f"{BRIDGED}={request.param}")
    yield engine
    assert wire.run(engine.netns, "sysctl", "-n", BRIDGED).stdout.strip() == request.param
    wire.run(engine.netns, "sysctl", "-qw", f"{BRIDGED}={before}")


def typed(engine: Engine, line: str) -> str:
    done = wire.run(engine.netns, *line.split())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_drop_of_the_course_typed_by_hand_holds_between_neighbours(anywhere: Engine) -> None:
    """seed 13.5: iptables -I DOCKER -s srcIP -d destIP -p TCP --dport 80 -j DROP"""
    web, friend, foe = anywhere.up(*WEB), anywhere.sleeper(), anywhere.sleeper()
    url, rule = f"http://{anywhere.address(web)}/", (
        f"DOCKER -s {anywhere.address(foe)} -d {anywhere.address(web)} -p TCP --dport 80 -j DROP"
    )
    assert get(anywhere, foe, url) == PAGE
    typed(anywhere, f"iptables -I {rule}")
    assert get(anywhere, foe, url, timeout=1) is None
    assert get(anywhere, friend, url) == PAGE
    before = typed(anywhere, "iptables -S DOCKER").splitlines()[1]
    anywhere.docker("rm", "-f", anywhere.up("-p", "80", *WEB))
    anywhere.docker("network", "rm", anywhere.out("network", "create", "other"))
    anywhere.kill9()
    anywhere.restart()
    assert typed(anywhere, "iptables -S DOCKER").splitlines()[1] == before
    assert get(anywhere, foe, url, timeout=1) is None
    assert get(anywhere, friend, url) == PAGE
    typed(anywhere, f"iptables -D {rule}")
    assert get(anywhere, foe, url) == PAGE


REPAIR = 2.0  # seconds in which the firewall is as it should be again
VANDALS = {
    "-F": ["{t} -F"],
    "-F and -X": ["{t}-restore EMPTY"],
    "nat -F": ["{t} -t nat -F"],
    "raw -F": ["{t} -t raw -F"],
    "one rule": ["{t} -D DOCKER-FORWARD 1"],
    "ACCEPT on top": ["{t} -I FORWARD -j ACCEPT"],
    "our jumps last": ["{t} -D FORWARD 1", "{t} -A FORWARD -j DOCKER-USER"],
    "an old dump": ["{t}-restore DUMP"],
    "flush ruleset": ["nft flush ruleset"],
}


@pytest.fixture(scope="module", params=["nft", "legacy"])
def watched(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, str]]:
    from tests.engine.wire import Wire

    lan = Wire.lay()
    try:
        engine = Engine(lan, flags=(f"--firewall-backend=iptables-{request.param}",))
        try:
            engine.start()
            engine.load_image()
            yield engine, f"iptables-{request.param}"
        finally:
            engine.destroy()
    finally:
        lan.remove()


def ours(engine: Engine, tool: str) -> list[str]:
    text = wire.run(engine.netns, f"{tool}-save").stdout
    return [line for line in text.splitlines() if "netkit:" in line]


def foreign(engine: Engine, tool: str) -> list[str]:
    text = wire.run(engine.netns, f"{tool}-save").stdout
    return [line for line in text.splitlines() if line[:2] == "-A" and "netkit:" not in line]


@pytest.fixture
def town(watched: tuple[Engine, str]) -> Iterator[tuple[Engine, str]]:
    yield watched
    engine, tool = watched
    engine.clear()
    for line in foreign(engine, tool):
        typed(engine, f"{tool} {line.replace('-A', '-D', 1)}")


@pytest.mark.parametrize("vandal", VANDALS)
def test_what_other_tools_break_is_whole_again_within_two_seconds(
    town: tuple[Engine, str], vandal: str
) -> None:
    engine, tool = town
    engine.up("-p", "8300:80", *WEB)
    passing = engine.up("-p", "8301:80", *WEB)
    typed(engine, f"{tool} -A INPUT -s 192.0.2.1 -j DROP")
    typed(engine, f"{tool} -I DOCKER -s 192.0.2.2 -j DROP")
    dump = engine.folder / "dump"
    dump.write_text(wire.run(engine.netns, f"{tool}-save").stdout)
    (engine.folder / "empty").write_text("*filter\nCOMMIT\n*nat\nCOMMIT\n*raw\nCOMMIT\n")
    engine.docker("rm", "-f", passing)  # the dump knows it still
    before = ours(engine, tool)
    for line in VANDALS[vandal]:
        if not (tool == "iptables-legacy" and line.startswith("nft")):
            text = line.format(t=tool)
            for word in ("DUMP", "EMPTY"):
                text = text.replace(word, str(engine.folder / word.lower()))
            typed(engine, text)
    theirs = foreign(engine, tool)
    deadline = time.monotonic() + REPAIR
    while (now := ours(engine, tool)) != before:
        assert time.monotonic() < deadline, sorted(set(before) ^ set(now)) or "out of order"
        time.sleep(0.05)
    assert foreign(engine, tool) == theirs
    wire.connected(engine.wire.neighbour, f"http://{wire.HOST}:8300/")
