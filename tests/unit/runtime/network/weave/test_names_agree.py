"""`weave dns-lookup`, which asks the overlay's process, and the resolver of containers agree."""

from __future__ import annotations

from netkit.dns.zones import Domain, build_views
from netkit.network.overlay_members import published_by
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec
from plugins.weave.domain import DOMAIN
from plugins.weave.local import Endpoint, Name, Network
from plugins.weave.members import membership
from runtime.network.weave.remote_members import states
from tests.unit.plugins.weave.overlay_world import Machine, Wire

WEAVE = Network(id=b"w", name="weave", vni=1, subnets=("10.32.0.0/16",))
LANE = Network(id=b"l", name="Lane", vni=2, subnets=("10.33.0.0/16",))
KEYS = {WEAVE.id: "weave-id", LANE.id: "lane-id"}


def put(machine: Machine, network: Network, address: str, *names: str) -> None:
    key = address.encode()
    mac = "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))
    made = Endpoint(id=key, network=network.id, mac=mac, addresses=(address,), names=names)
    machine.do(machine.overlay.put(made, machine.wire.now))


def test_both_answer_the_same_to_full_names_and_addresses() -> None:
    wire = Wire()
    a, b = wire.machine(1), wire.machine(2)
    a.launch()
    b.launch(a)
    for machine in (a, b):
        for network in (WEAVE, LANE):
            machine.do(machine.overlay.put(network, wire.now))
    put(a, WEAVE, "10.32.0.1", "one", "site")
    put(b, WEAVE, "10.32.0.2", "two", "Site", "db.shard")
    put(b, LANE, "10.33.0.2", "two")
    put(b, LANE, "10.33.0.3", "weave")
    for n, (machine, network, name, address) in enumerate((
        (a, b"", "extern", "192.0.2.9"), (b, b"", "extern", "192.0.2.10"),
        (b, LANE.id, "extern", "fd00::9"), (b, WEAVE.id, "www.shop", "10.32.0.2"),
    )):  # fmt: skip
        added = Name(id=bytes((n,)), network=network, name=name, addresses=(address,))
        machine.do(machine.overlay.put(added, wire.now))
    wire.run(5)

    found = states(membership(a.overlay, KEYS))
    record = EndpointRecord(
        id="e", network="weave-id", sandbox="one", owner_name="one", address="10.32.0.1/12",
        spec=EndpointSpec(network="weave-id", names=("one", "site")),
    )  # fmt: skip
    own = [record, EndpointRecord(
        id="f", network="lane-id", sandbox="one", owner_name="one", spec=EndpointSpec(network="l"),
    )]  # fmt: skip
    networks = {
        id: NetworkRecord(id=id, spec=NetworkSpec(name=name, driver="weave"), created="")
        for id, name in (("weave-id", "weave"), ("lane-id", "Lane"))
    }
    domains = {
        id: Domain(name=DOMAIN, home=id == "weave-id", published=tuple(published_by(found[id])))
        for id in networks
    }
    view = build_views({"one": ()}, own, networks, domains)["one"]
    labels = ("one", "two", "site", "db.shard", "www.shop", "extern", "weave", "unknown", "lane")
    zones = ("weave.local", "lane.weave.local", "weave.weave.local", "x.weave.local")
    asked = [f"{label}.{zone}" for label in labels for zone in zones]
    answers = {name: set(view.addresses(name) or ()) for name in asked}
    assert answers == {name: set(a.overlay.lookup(name)) for name in asked}
    assert answers["site.weave.local"] == {"10.32.0.1", "10.32.0.2"}
    assert answers["two.lane.weave.local"] == {"10.33.0.2"}
    assert answers["extern.lane.weave.local"] == {"fd00::9"}
    for address in ("10.32.0.1", "10.33.0.2", "192.0.2.9", "fd00::9", "10.9.9.9"):
        name, known = view.name_of(address), [n.lower() for n in a.overlay.reverse(address)]
        assert (name is None and not known) or (name or "").lower() in known, address
