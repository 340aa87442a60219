"""Which names each container can resolve."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.dns import control
from netkit.dns.zones import (
    Domain,
    Published,
    ResolverView,
    Zone,
    build_views,
)
from netkit.spec import EndpointRecord, EndpointSpec, NetworkRecord, NetworkSpec


def network(id: str, *, internal: bool = False, builtin: bool = False) -> NetworkRecord:
    spec = NetworkSpec(name=id.title(), internal=internal)
    return NetworkRecord(id=id, spec=spec, created="", builtin=builtin)


NETWORKS = {
    n.id: n
    for n in (
        network("front"),
        network("back", internal=True),
        network("bridge", builtin=True),
    )
}


def endpoint(
    sandbox: str,
    net: str,
    address: str,
    *aliases: str,
    default: bool = False,
    links: tuple[tuple[str, str], ...] = (),
) -> EndpointRecord:
    names = () if net == "bridge" else (sandbox, *aliases)
    return EndpointRecord(
        id=f"{sandbox}-{net}",
        network=net,
        sandbox=sandbox,
        owner_name=sandbox,
        spec=EndpointSpec(network=net, names=names, links=links),
        address=address,
        is_default=default,
    )


def look(
    *endpoints: EndpointRecord, upstreams: tuple[str, ...] = ("192.0.2.1",),
    domains: dict[str, Domain] | None = None,
) -> dict[str, ResolverView]:  # fmt: skip
    sandboxes = {e.sandbox: upstreams for e in endpoints}
    return build_views(sandboxes, endpoints, NETWORKS, domains or {})


def test_containers_on_one_network_know_each_other_and_themselves() -> None:
    seen = look(
        endpoint("Web", "front", "10.1.0.2/16", "site"), endpoint("c", "front", "10.1.0.3/16")
    )
    for name in ("web", "site", "web.front", "site.front"):
        assert seen["c"].addresses(name) == ("10.1.0.2",)
    assert seen["Web"].addresses("web") == ("10.1.0.2",)
    assert seen["c"].name_of("10.1.0.2") == "Web.Front"
    assert seen["c"].addresses("web.back") is None
    assert seen["c"].addresses("front") is None
    assert seen["c"].upstreams == ("192.0.2.1",)


def test_a_container_on_another_network_is_unknown() -> None:
    seen = look(endpoint("web", "front", "10.1.0.2/16"), endpoint("c", "back", "10.2.0.3/16"))
    assert seen["c"].addresses("web") is None
    assert seen["c"].addresses("web.front") is None
    assert seen["c"].name_of("10.1.0.2") is None


def test_an_alias_of_several_containers_has_all_their_addresses() -> None:
    seen = look(
        endpoint("a", "front", "10.1.0.2/16", "site"), endpoint("b", "front", "10.1.0.3/16", "site")
    )
    assert seen["a"].addresses("site") == ("10.1.0.2", "10.1.0.3")


def test_the_network_of_the_default_route_comes_first() -> None:
    web = (endpoint("web", "front", "10.1.0.2/16"), endpoint("web", "back", "10.2.0.2/16"))
    for first in ("front", "back"):
        c = [
            endpoint("c", net, f"10.{n}.0.9/16", default=net == first)
            for n, net in enumerate(("front", "back"), 1)
        ]
        view = look(*web, *c)["c"]
        assert view.addresses("web") == (("10.1.0.2",) if first == "front" else ("10.2.0.2",))
        assert view.addresses("web.back") == ("10.2.0.2",)


def test_the_builtin_network_has_no_names() -> None:
    seen = look(
        endpoint("web", "bridge", "172.17.0.2/16"), endpoint("c", "bridge", "172.17.0.3/16")
    )
    assert seen == {}


def test_an_endpoint_without_address_has_no_name() -> None:
    assert look(endpoint("web", "front", ""))["web"].addresses("web") is None


def test_nothing_is_forwarded_if_all_networks_are_internal() -> None:
    inner = endpoint("c", "back", "10.2.0.2/16")
    assert not look(inner)["c"].forward
    assert look(inner, endpoint("c", "front", "10.1.0.2/16"))["c"].forward
    assert look(inner, endpoint("c", "bridge", "172.17.0.2/16"))["c"].forward


def test_a_link_is_an_alias_for_one_container_only() -> None:
    seen = look(
        endpoint("db", "front", "10.1.0.2/16"),
        endpoint("c", "front", "10.1.0.3/16", links=(("db", "Store"), ("gone", "nobody"))),
        endpoint("d", "front", "10.1.0.4/16"),
    )
    assert seen["c"].addresses("store") == seen["c"].addresses("store.front") == ("10.1.0.2",)
    assert seen["c"].addresses("nobody") is None
    assert seen["d"].addresses("store") is None


def domain(*published: Published, home: bool = False) -> dict[str, Domain]:
    return {"front": Domain(name="weave.local", home=home, published=published)}


DB = Published(names=("db", "DB.shard"), addresses=("10.1.128.1", "fd00::1"))


def test_names_of_an_overlay_s_network_are_found_in_its_domain_too() -> None:
    web = endpoint("web", "front", "10.1.0.2/16", "my.site")
    c = endpoint("c", "front", "10.1.0.3/16")
    view = look(web, c, domains=domain(DB))["c"]
    full = [f"{name}.front.weave.local" for name in ("web", "my.site")]
    for name in ("web", "my.site", "web.front", *full):
        assert view.addresses(name) == ("10.1.0.2",), name
    assert view.addresses("db") == view.addresses("db.front.weave.local") == DB.addresses
    assert view.addresses("web.weave.local") is None
    home = look(web, c, domains=domain(DB, home=True))["c"]
    assert home.addresses("web.weave.local") == ("10.1.0.2",)
    assert home.addresses("db.front.weave.local") == home.addresses("db.weave.local")
    assert view.name_of("10.1.0.2") == "web.front.weave.local"
    assert (home.name_of("10.1.0.2"), home.name_of("fd00::1")) == (
        "web.weave.local", "db.weave.local"
    )  # fmt: skip


def test_a_name_of_another_host_with_a_dot_is_found_in_the_domain_only() -> None:
    forged = Published(names=("www.example.com", "db.front", "web.back"), addresses=("10.1.0.66",))
    view = look(endpoint("c", "front", "10.1.0.3/16"), domains=domain(DB, forged, home=True))["c"]
    for name in ("www.example.com", "web.back", "example.com", "shard"):
        assert view.addresses(name) is None
    assert view.addresses("db.front") == DB.addresses
    assert view.addresses("www.example.com.weave.local") == ("10.1.0.66",)
    assert view.addresses("db.shard.front.weave.local") == DB.addresses
    assert view.addresses("db.front.weave.local") == DB.addresses  # the network's, not that name


def test_nothing_below_the_domain_is_anybody_else_s() -> None:
    view = look(endpoint("c", "front", "10.1.0.3/16"), domains=domain(DB))["c"]
    for name in ("x.weave.local", "web.back.weave.local", "x.front.weave.local"):
        assert view.closed(name)
        assert view.addresses(name) is None
    for name in ("weave.local", "front.weave.local"):
        assert (view.closed(name), view.addresses(name)) == (True, ())
    for name in ("xweave.local", "weave.local.example", "local", ""):
        assert not view.closed(name)
    assert not look(endpoint("c", "front", "10.1.0.3/16"))["c"].closed("x.weave.local")


def test_a_container_elsewhere_shares_a_name_and_displaces_none_of_this_host() -> None:
    many = [
        Published(names=("web",), addresses=(f"10.1.{n >> 8}.{n & 255}",))
        for n in range(5000, 7000)
    ]
    ours = [endpoint(s, "front", f"10.1.0.{n}/16", "web") for n, s in enumerate(("y", "z"), 2)]
    found = look(*ours, domains=domain(*many))["y"].addresses("web")
    assert found is not None
    assert found[:2] == ("10.1.0.2", "10.1.0.3")
    assert len(found) == 1024
    few = look(*ours, domains=domain(DB))["y"]
    assert few.name_of("10.1.0.2") == "y.front.weave.local"


def test_a_container_of_another_network_sees_nothing_of_an_overlay_s() -> None:
    web, c = endpoint("web", "front", "10.1.0.2/16"), endpoint("c", "back", "10.2.0.3/16")
    view = look(web, c, domains=domain(DB, home=True))["c"]
    for name in ("db", "web", "db.front", "db.weave.local", "web.front.weave.local"):
        assert view.addresses(name) is None
    assert view.name_of("10.1.128.1") is None


NAMES = st.dictionaries(
    st.text(st.sampled_from("abc."), min_size=1, max_size=4),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), min_size=1, max_size=2).map(tuple),
    max_size=5,
)
REVERSE = st.dictionaries(st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.text(max_size=3))
ZONES = st.builds(
    Zone, id=st.just("z"), name=st.just("net"), names=NAMES, reverse=REVERSE, dotted=NAMES,
    domain=st.sampled_from(["", "weave.local"]),
    below=st.sampled_from([(), ("net.weave.local",), ("net.weave.local", "weave.local")]),
)  # fmt: skip


@pytest.mark.slow
@given(ZONES, ZONES)
def test_the_message_about_a_change_brings_it_about(old: Zone, new: Zone) -> None:
    first = list(control.zone_messages(old, None))
    assert control.changed_zone(None, first) == old
    change = list(control.zone_messages(new, old))
    assert bool(change) == (old != new)
    decoded = msgspec.json.decode(msgspec.json.encode(change))
    if decoded:
        assert control.changed_zone(old, decoded) == new


@pytest.mark.slow
def test_a_large_zone_is_sent_in_parts_that_fit() -> None:
    names = {f"container-{n}": (f"10.0.{n >> 8}.{n & 255}",) for n in range(5000)}
    zone = Zone(id="z", name="net", names=names, reverse={})
    messages = list(control.zone_messages(zone, None))
    assert len(messages) > 2
    assert max(len(msgspec.json.encode(m)) for m in messages) < control.LARGEST
    assert [m["more"] for m in messages] == [True] * (len(messages) - 1) + [False]
    assert control.changed_zone(None, messages) == zone
