"""Containers of other hosts in questions about packets and in access rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from netkit.driver import OverlayPorts
from netkit.errors import InvalidSpec, NotFound
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec
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


def elsewhere(*records: EndpointRecord, here: tuple[EndpointRecord, ...] = ()) -> Elsewhere:
    """`here`: endpoints of this host; the container one is here in any case.  The hosts of others
    are called by a letter of their ids, h2, h3."""
    local = {"one": "1" * 64} | {e.owner_name: e.sandbox for e in here}

    def find(ref: str) -> Any:
        if ref not in local:
            raise NotFound(ref)
        return SimpleNamespace(name=ref, id=local[ref])

    networks: Any = SimpleNamespace(
        overlay=PORTS.get, find=lambda name: SimpleNamespace(id=name),
        all=lambda: [
            NetworkRecord(id=n, created="", spec=NetworkSpec(name=n))
            for n in ("lane", "sealed", "wide")
        ],
        endpoints=lambda sandbox: [e for e in here if e.sandbox == sandbox],
    )  # fmt: skip
    store: Any = SimpleNamespace(find=find)
    return Elsewhere(networks, store, lambda: list(records), lambda r: f"h{r.sandbox[-1]}")


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
    assert warning.endswith(f"of that name, too: h2/web ({WEB[0].sandbox[:12]})")


TWINS = (record("web", "lane", "10.32.0.9"), record("web", "lane", "10.32.0.8", "3"))


def test_of_several_with_one_name_one_is_named_by_its_host_or_its_id() -> None:
    twins = elsewhere(*TWINS)
    both = r"called web: name one by its host, or by its id: h2/web \(\w+\), h3/web \(\w+\)$"
    for call in (twins.find, twins.source, twins.target):
        with pytest.raises(InvalidSpec, match=both):
            call("web")
    assert [r.address for r in twins.find("h3/web")] == ["10.32.0.8"]
    assert twins.source("h2/web") == "lan:10.32.0.9@wx-a"
    assert twins.target("h3/web:lane:80") == "10.32.0.8:80"
    assert twins.find("h9/web") == twins.find("unknown") == twins.find("/web") == []
    for call in (twins.source, twins.target):
        with pytest.raises(NotFound, match="no container web of host h9 is known here"):
            call("h9/web")
        for text in ("10.32.0.0/16", "h2/host", "web/"):
            with pytest.raises(InvalidSpec, match="is neither CONTAINER"):
                call(text)


def test_a_name_of_this_host_is_another_hosts_where_that_is_given() -> None:
    found = elsewhere(record("one", "lane", "10.32.0.7"))
    assert (found.target("one"), found.target("h2/one")) == ("one", "10.32.0.7")


def test_of_several_addresses_the_one_that_a_connection_takes() -> None:
    """On a network of both, and there in a subnet of the sender."""
    web = replace(WEB[0], address="10.32.0.9/12", more_addresses=("192.168.1.9/24",))
    near = record("near", "lane", "192.168.1.2/24", "1")
    sealed = record("inner", "sealed", "10.33.0.2/24", "1")
    found = elsewhere(web, WEB[1], here=(near, sealed))
    assert found.target("web", "one") == "10.32.0.9"
    assert (found.target("web", "near"), found.target("web", "inner")) == (
        "192.168.1.9", "10.33.0.9",
    )  # fmt: skip
    assert found.target("web:lane:80", "inner") == "10.32.0.9:80"
    assert found.source("web", "near:80") == "lan:192.168.1.9@wx-a"
    assert found.source("web", "inner") == "lan:10.33.0.9@wt-b"
