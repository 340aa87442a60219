"""Series of networks, endpoints and traffic, from rows and a dump of links."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

import pytest

from netkit.driver import PortMapping
from netkit.kernel.netlink.counters import CountedLink, Counters
from netkit.network.address_use import SubnetUse
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec
from runtime import limits
from runtime.metrics.figures import Figures
from runtime.metrics.networks import Lasting, NetworkFigures

NET, OVS = "a" * 64, "b" * 64


def network(id: str, name: str, driver: str = "bridge") -> NetworkRecord:
    return NetworkRecord(id=id, spec=NetworkSpec(name=name, driver=driver), created="2026")


def endpoint(
    id: str, network: str, name: str, *ports: PortMapping, engine: str = ""
) -> EndpointRecord:
    return EndpointRecord(
        id=id * 64, network=network, sandbox=f"box-{name}", owner_name=name, engine=engine,
        spec=EndpointSpec(network=network), ports=ports,
    )  # fmt: skip


def port(proto: str, host_port: int = 80) -> PortMapping:
    return PortMapping(proto=proto, container_port=80, host_ip="0.0.0.0", host_port=host_port)


class Rows:
    def __init__(self) -> None:
        self.networks = [network(NET, "net"), network(OVS, "wire\n", "ovs")]
        self.joined = [
            endpoint("1", NET, "web", port("tcp"), port("udp"), port("tcp", 0)),
            endpoint("2", OVS, "db", engine="docker"),
        ]

    def all(self) -> list[NetworkRecord]:
        return self.networks

    def endpoints(self) -> list[EndpointRecord]:
        return self.joined

    def address_use(self) -> list[SubnetUse]:
        return [
            SubnetUse(NET, ip_network("10.0.0.0/24"), 254, 3, 5),
            SubnetUse(OVS, ip_network("10.0.1.0/24"), 254, 1, 3),
        ]


COUNTERS = Counters(1, 2, 3, 4, 5, 6, 7, 8)


def links(rows: Rows) -> list[CountedLink]:
    pairs = [
        CountedLink(f"veth{r.id[0]}", f"netkit:e:{r.network[:12]}:{r.id[:12]}", "veth", COUNTERS)
        for r in rows.joined
    ]
    return [*pairs, CountedLink("br-net", f"netkit:e:{NET[:12]}", "bridge", COUNTERS)]


def found(figures: Iterable[Figures]) -> dict[str, dict[tuple[str, ...], float]]:
    return {each.series.name: dict(each.values) for each in figures}


@pytest.fixture
def rows() -> Rows:
    return Rows()


def test_networks_endpoints_and_ports_are_counted(rows: Rows) -> None:
    assert found(NetworkFigures(rows, list).networks()) == {
        "netkit_networks": {("bridge",): 1, ("ovs",): 1},
        "netkit_endpoints": {("bridge", "netkit"): 1, ("ovs", "docker"): 1},
        "netkit_published_ports": {("tcp", "netkit"): 1, ("udp", "netkit"): 1},
    }


def test_an_endpoint_without_a_network_is_counted_without_a_driver(rows: Rows) -> None:
    rows.networks.pop()
    now = found(NetworkFigures(rows, list).networks())
    assert now["netkit_endpoints"][("", "docker")] == 1


def test_the_use_of_addresses_is_by_network_and_subnet(rows: Rows) -> None:
    now = found(NetworkFigures(rows, list).addresses())
    wire = f"wire_~{OVS[:12]}"
    assert now["netkit_ipam_addresses"] == {
        ("net", "10.0.0.0/24"): 254, (wire, "10.0.1.0/24"): 254,
    }  # fmt: skip
    assert now["netkit_ipam_allocated_addresses"][("net", "10.0.0.0/24")] == 3


def test_what_the_host_transmitted_is_what_the_container_received(rows: Rows) -> None:
    now = found(NetworkFigures(rows, lambda: links(rows)).traffic())
    web = ("net", "web", "1" * 12, "netkit")
    endpoints = {
        name.removeprefix("netkit_endpoint_").removesuffix("_total"): values[web]
        for name, values in now.items() if name.startswith("netkit_endpoint_")
    }  # fmt: skip
    assert endpoints == {
        "receive_packets": 2, "receive_bytes": 4, "receive_errors": 6,
        "receive_packets_dropped": 8, "transmit_packets": 1, "transmit_bytes": 3,
        "transmit_errors": 5, "transmit_packets_dropped": 7,
    }  # fmt: skip
    db = (f"wire_~{OVS[:12]}", "db", "2" * 12, "docker")
    assert now["netkit_endpoint_receive_bytes_total"][db] == 4
    device = {"netkit_network_device_receive_bytes_total": 3,
              "netkit_network_device_transmit_packets_dropped_total": 8}  # fmt: skip
    for name, value in device.items():
        assert now[name] == {("net", "br-net", "bridge"): value}


def test_links_of_what_has_no_row_have_no_series(rows: Rows) -> None:
    stale = links(rows)
    rows.joined.clear()
    rows.networks.clear()
    now = found(NetworkFigures(rows, lambda: stale).traffic())
    assert not any(values for name, values in now.items() if name != "netkit_omitted_series")
    assert now["netkit_omitted_series"] == {("endpoints",): 0, ("devices",): 0}


def test_series_of_endpoints_are_bounded_and_last(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "METRICS_ENDPOINTS", 2)
    figures = NetworkFigures(rows, lambda: links(rows))
    first = found(figures.traffic())["netkit_endpoint_receive_bytes_total"]
    rows.joined.insert(0, replaced(rows.joined[0], "0"))
    now = found(figures.traffic())
    assert now["netkit_endpoint_receive_bytes_total"].keys() == first.keys()
    assert now["netkit_omitted_series"] == {("endpoints",): 1, ("devices",): 0}


def replaced(record: EndpointRecord, id: str) -> EndpointRecord:
    return endpoint(id, record.network, f"{record.owner_name}{id}")


def test_room_is_given_to_those_that_come_next() -> None:
    lasting = Lasting()
    assert lasting.of(["b", "a", "c"], 2) == {"b", "a"}
    assert lasting.of(["a", "b", "c"], 2) == {"b", "a"}
    assert lasting.of(["c", "b"], 2) == {"b", "c"}
    assert lasting.of(["c", "b"], 1) == {"b"}
    assert lasting.of([], 1) == set()
