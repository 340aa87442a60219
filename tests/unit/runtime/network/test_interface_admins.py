"""Which containers may change their interfaces, and make tunnels of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runtime.network.interface_admins import administers


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ({}, False),
        ({"privileged": True}, True),
        ({"cap_add": ["NET_ADMIN"]}, True),
        ({"cap_add": ["SYS_TIME"]}, False),
        ({"cap_add": ["ALL"], "cap_drop": ["NET_ADMIN"]}, False),
    ],
)
def test_a_container_may_by_its_capabilities(host: dict[str, Any], may: bool) -> None:
    config = SimpleNamespace(**{"privileged": False, "cap_add": [], "cap_drop": []} | host)
    store: Any = SimpleNamespace(get={"web": SimpleNamespace(host_config=config)}.get)
    assert administers(store, "web") == may


def test_one_that_another_engine_runs_may() -> None:
    store: Any = SimpleNamespace(get={}.get)
    assert administers(store, "theirs")
