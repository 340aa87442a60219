"""What a walk sees of endpoints, where containers of other engines end without a word."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from netkit.diagnose.explain.facts import KnownNetwork
from netkit.diagnose.trace.live import LiveObserver
from netkit.kernel import netns
from netkit.spec import EndpointRecord, EndpointSpec


def _record(name: str, address: str) -> EndpointRecord:
    return EndpointRecord(
        id=name, network="n", sandbox=name, owner_name=name, spec=EndpointSpec(network="n"),
        address=address,
    )  # fmt: skip


def test_an_endpoint_whose_namespace_ended_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = {"/ns/web"}
    monkeypatch.setattr(netns, "exists", lambda path: path in alive)
    spaces = {"web": "/ns/web", "gone": "/ns/gone", "host": ""}
    rest: dict[str, Any] = {
        name: Mock()
        for name in ("switches", "vswitchd", "access", "layouts", "firewall", "locate")
    }
    observer = LiveObserver(
        home="",
        networks=[KnownNetwork(id="n", name="net")],
        endpoints=[_record(n, f"10.0.0.{k}/24") for k, n in enumerate(spaces, 2)],
        namespace=spaces.__getitem__,
        **rest,
    )
    assert [(e.container, str(e.address)) for e in observer.endpoints()] == [
        ("web", "10.0.0.2"),
        ("host", "10.0.0.4"),
    ]
