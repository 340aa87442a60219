"""What differs between two looks at networks and endpoints."""

from __future__ import annotations

from dataclasses import replace

from netkit.driver import PortMapping
from netkit.kernel.netlink.counters import Counters
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec, SubnetSpec
from runtime.watch import snapshot
from runtime.watch.snapshot import Snapshot

NET, WEB = "n" * 64, "e" * 64
NETWORK = NetworkRecord(
    id=NET, created="",
    spec=NetworkSpec(
        name="back", driver="ovs", subnets=(SubnetSpec(subnet="10.1.0.0/24", gateway="10.1.0.1"),),
    ),
)  # fmt: skip
ENDPOINT = EndpointRecord(
    id=WEB, network=NET, sandbox="s" * 64, owner_name="web",
    spec=EndpointSpec(network=NET, names=("web", "w")), address="10.1.0.2/24",
    mac="02:42:0a:01:00:02", ifname="eth0", gateway="10.1.0.1", is_default=True,
    ports=(PortMapping(proto="tcp", container_port=80, host_ip="", host_port=8080),),
)  # fmt: skip


def look(*endpoints: EndpointRecord, at: float = 0.0, **traffic: Counters) -> Snapshot:
    return Snapshot(
        networks={NET: snapshot.network(NETWORK, [{"Name": "h2", "IP": "10.0.0.2", "State": ""}])},
        endpoints={e.id: snapshot.endpoint(e) for e in endpoints},
        repaired={"links": 0}, traffic=traffic, at=at,
    )  # fmt: skip


def test_objects_have_what_their_rows_have() -> None:
    found = look(ENDPOINT).complete()
    assert found == {
        "Networks": {NET: {
            "Name": "back", "Driver": "ovs", "Scope": NETWORK.spec.scope, "Internal": False,
            "Subnets": [{"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1"}], "Options": {},
            "Peers": [{"Name": "h2", "IP": "10.0.0.2", "State": ""}],
        }},
        "Endpoints": {WEB: {
            "Network": NET, "Container": "web", "ContainerID": "s" * 64, "Engine": "netkit",
            "Addresses": ["10.1.0.2/24"], "MacAddress": "02:42:0a:01:00:02", "Interface": "eth0",
            "Gateway": "10.1.0.1", "DefaultRoute": True, "Names": ["web", "w"],
            "Ports": [{"Protocol": "tcp", "ContainerPort": 80, "HostIP": "", "HostPort": 8080}],
        }},
        "Repaired": {"links": 0},
    }  # fmt: skip


def test_changes_are_what_is_new_what_differs_and_what_was_removed() -> None:
    before, other = look(ENDPOINT), look()
    assert snapshot.changes(before, before) == {}
    assert snapshot.changes(before, other) == {"Endpoints": {WEB: None}}
    assert snapshot.changes(other, before) == {"Endpoints": dict(before.endpoints)}
    moved = look(
        EndpointRecord(**{f: getattr(ENDPOINT, f) for f in ENDPOINT.__struct_fields__}
                       | {"more_addresses": ("10.1.0.9/24",)})
    )  # fmt: skip
    (found,) = snapshot.changes(before, moved)["Endpoints"].values()
    assert found["Addresses"] == ["10.1.0.2/24", "10.1.0.9/24"]
    repaired = replace(before, repaired={"links": 2})
    assert snapshot.changes(before, repaired) == {"Repaired": {"links": 2}}
    assert snapshot.changes(before, Snapshot(repaired={"links": 0}))["Networks"] == {NET: None}


def test_traffic_is_what_a_container_received_and_sent_in_between() -> None:
    # of the host's end: packets, bytes, errors, dropped, each received and transmitted
    first, then = Counters(1, 2, 100, 200, 0, 0, 0, 0), Counters(3, 5, 180, 900, 0, 0, 0, 1)
    found = snapshot.traffic(look(at=1, **{WEB: first}), look(at=3.5, **{WEB: then}))
    assert found == {"Seconds": 2.5, "Endpoints": {WEB: {
        "ReceiveBytes": 700, "ReceivePackets": 3, "ReceiveDropped": 1,
        "TransmitBytes": 80, "TransmitPackets": 2, "TransmitDropped": 0,
    }}}  # fmt: skip


def test_an_interface_that_is_new_or_silent_has_no_traffic() -> None:
    low, high = Counters(*[1] * 8), Counters(*[2] * 8)
    for before, after in (({}, {WEB: low}), ({WEB: low}, {WEB: low}), ({WEB: high}, {WEB: low})):
        assert snapshot.traffic(look(**before), look(**after))["Endpoints"] == {}
