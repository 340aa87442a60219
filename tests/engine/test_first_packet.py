"""Containers reach each other from the moment that a start is answered.

Counted, not timed: the first packets of each way are answered, be it late.
"""

from __future__ import annotations

import pytest

from tests.engine.daemon import Engine, netkit_only
from tests.engine.wire import NEIGHBOUR
from tests.first_contact import lost

pytestmark = [pytest.mark.engine, netkit_only("it has other drivers")]


@pytest.mark.parametrize("driver", ["bridge", "weave"])
def test_on_one_host_no_packet_is_lost(engine: Engine, driver: str) -> None:
    engine.out("network", "create", "-d", driver, "--subnet", "10.37.0.0/24", "lane")
    assert lost(engine.host, engine.host, "lane") == (0, 0)


def test_on_the_hosts_lan_no_packet_is_lost(own_engine: Engine) -> None:
    own_engine.load_image()
    words = ("-o", "parent=eth0", "--subnet", "10.77.0.0/24", "--gateway", NEIGHBOUR)
    own_engine.out("network", "create", "-d", "lan", *words, "--ip-range", "10.77.0.128/26", "lan0")
    assert lost(own_engine.host, own_engine.host, "lan0") == (0, 0)
