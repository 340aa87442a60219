"""Who may reach whom, by hand and by `netkit fw`: with real containers and real packets."""

from __future__ import annotations

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
