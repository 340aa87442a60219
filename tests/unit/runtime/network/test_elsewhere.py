"""Containers of other hosts in questions about packets and in access rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from netkit.driver import OverlayPorts
from netkit.errors import InvalidSpec, NotFound
from netkit.spec import EndpointRecord, EndpointSpec
from runtime.network.elsewhere import Elsewhere

PORTS = {
    "lane": OverlayPorts(vni=7, bridge="wv-a", tap="wt-a", vxlan="wx-a"),
    "sealed": OverlayPorts(vni=8, bridge="wv-b", tap="wt-b"),
}


def record(name: str, network: str, address: str, peer: str = "2") -> EndpointRecord:
    return EndpointRecord(
        id=f"{name}-{network}", network=network, sandbox=name.encode().hex() + peer * 32,
        owner_name=name, spec=EndpointSpec(network=network), address=address,
    )  # fmt: skip


def elsewhere(*records: EndpointRecord, here: tuple[str, ...] = ("one",)) -> Elsewhere:
    def find(ref: str) -> str:
        if ref not in here:
            raise NotFound(ref)
        return ref

    networks: Any = SimpleNamespace(
        overlay=PORTS.get, find=lambda name: SimpleNamespace(id=name)
    )
    store: Any = SimpleNamespace(find=find)
    return Elsewhere(networks, store, lambda: list(records))


WEB = (record("web", "lane", "10.32.0.9"), record("web", "sealed", "10.33.0.9"))


def test_a_container_elsewhere_is_its_address_and_the_port_that_it_comes_by() -> None:
    found = elsewhere(*WEB)
    assert found.source("web") == "lan:10.32.0.9@wx-a"
    assert found.source("web:sealed") == "lan:10.33.0.9@wt-b"
    assert found.source(WEB[0].sandbox[:12]) == "lan:10.32.0.9@wx-a"
    assert (found.target("web"), found.target("web:80")) == ("10.32.0.9", "10.32.0.9:80")
    assert found.target("web:sealed:80") == "10.33.0.9:80"


@pytest.mark.parametrize("text", ["one", "nobody", "host", "world", "10.32.0.9", "lan:10.0.0.1@x"])
def test_all_else_is_left_as_it_is(text: str) -> None:
    found = elsewhere(*WEB, record("one", "lane", "10.32.0.7"), record("ovs", "wide", "10.70.0.2"))
    assert found.source(text) == found.target(text) == text
    assert found.source("ovs") == found.target("ovs") == "ovs"  # Open vSwitch's, of a cluster


def test_containers_elsewhere_of_a_name_of_this_host_are_warned_of() -> None:
    found = elsewhere(*WEB, record("db", "lane", "10.32.0.8", "3"))
    assert found.namesakes("one") == []
    (warning,) = found.namesakes("web")
    assert "container web of this host is meant" in warning
    assert warning.endswith(WEB[0].sandbox[:12])


def test_of_several_with_one_name_an_id_is_needed() -> None:
    twins = elsewhere(record("web", "lane", "10.32.0.9"), record("web", "lane", "10.32.0.8", "3"))
    for call in (twins.find, twins.source, twins.target):
        with pytest.raises(InvalidSpec, match="several containers of other hosts are called web"):
            call("web")
    assert twins.find("nobody") == []
