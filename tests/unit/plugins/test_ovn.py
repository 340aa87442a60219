"""The ovn driver as a pure function, and on a kernel made of a dict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_interface
from typing import TypeVar

import pytest

from netkit.driver import Access, Endpoint, HostFacts, MultiHost, Network, OvnFacts, Subnet
from netkit.errors import InvalidSpec
from netkit.model import HOST, Addr, Resource, Rule, state
from netkit.model.openvswitch import OvsPort, TunnelRoute
from netkit.model.ovn import (
    Chassis,
    LogicalAcl,
    LogicalPort,
    LogicalSwitch,
    Match,
    Northbound,
    identity,
)
from netkit.testing.kernel import NETNS
from plugins.ovn import Ovn, gateway_mac, gateway_name, switch_name

T = TypeVar("T")
NB = "tcp:10.0.0.1:6641,tcp:10.0.0.2:6641"
FACTS = OvnFacts(
    northbound=NB, southbound="tcp:10.0.0.1:6642", encap_ip=IPv4Address("10.0.0.9")
)  # fmt: skip
ID = "c" * 64


def network(name: str = "wide", id: str = ID, **options: str) -> Network:
    cidr = IPv4Network("10.70.0.0/24")
    return Network(
        id=id,
        name=name,
        driver="ovn",
        subnets=(Subnet(cidr=cidr, gateway=cidr[1]),),
        options=Ovn().parse(options),
    )


def endpoint(*access: Access) -> Endpoint:
    return Endpoint(
        id="09" * 32,
        network=ID,
        addresses=(ip_interface("10.70.0.9/24"),),
        mac="02:42:0a:46:00:09",
        ns=f"{NETNS}/c9",
        ifname="eth0",
        gateway=True,
        access=access,
    )


def drop(number: int, **fields: object) -> Access:
    sources = (IPv4Network("10.70.0.11/32"),)
    return replace(Access(id=f"{number:012x}", verdict="drop", sources=sources), **fields)


def of(kind: type[T], resources: Iterable[Resource]) -> list[T]:
    return [r for r in resources if isinstance(r, kind)]


def acls(*access: Access, net: Network | None = None) -> list[LogicalAcl]:
    return of(LogicalAcl, Ovn().endpoint(net or network(), endpoint(*access)))


def test_a_network_of_a_name_is_one_switch_on_all_hosts_and_a_global_one_goes_by_its_id() -> None:
    one, two = network(id="a" * 64), network(id="b" * 64)
    assert switch_name(one) == switch_name(two) != switch_name(network("other"))
    assert gateway_mac(one) == gateway_mac(two)
    shared = [replace(n, shared=True) for n in (one, replace(one, name="other"), two)]
    assert switch_name(shared[0]) == switch_name(shared[1]) != switch_name(shared[2])


def test_the_gateway_is_an_interface_of_the_host_with_the_port_that_all_hosts_have() -> None:
    net = network()
    made = list(Ovn().network(net))
    (switch,) = of(LogicalSwitch, made)
    (port,) = of(OvsPort, made)
    assert switch.gateway == f"{gateway_mac(net)} 10.70.0.1"
    assert (port.iface_id, port.mac) == (f"{switch.name}-gateway", gateway_mac(net))
    assert (port.kind, port.mtu, port.up, port.bridge) == ("internal", 1442, True, "br-int")
    assert [a.dev for a in of(Addr, made)] == [port.name] == [gateway_name(net)]
    policy = Ovn().policy(net)
    assert (policy.link, policy.mode) == (port.name, "nat")


def test_a_container_is_a_port_that_this_hosts_chassis_alone_may_have() -> None:
    made = list(Ovn(userspace=True).endpoint(network(), endpoint()))
    (logical,) = of(LogicalPort, made)
    (port,) = of(OvsPort, made)
    assert (logical.here, logical.secured, logical.port) == (True, True, port.name)
    assert logical.addresses == "02:42:0a:46:00:09 10.70.0.9"
    assert port.iface_id == logical.name
    assert state(made)  # nothing is desired in two ways


def test_netkitds_flags_make_the_host_a_chassis() -> None:
    made = list(Ovn(FACTS, userspace=True).setup("o"))
    assert Chassis(
        southbound="tcp:10.0.0.1:6642", encap_ip=IPv4Address("10.0.0.9"), userspace=True
    ) in made  # fmt: skip
    assert of(Northbound, made) == [Northbound(remote=NB)]
    assert [str(r.dst) for r in of(TunnelRoute, made)] == ["0.0.0.0/0"]
    translated = [r.args for r in of(Rule, made) if "DNAT" in r.args]
    assert [args[:6] for args in translated] == [
        ("-d", "10.0.0.9/32", "-p", "udp", "--dport", "6081")
    ]


def test_on_an_administrators_chassis_its_tunnels_are_left_alone() -> None:
    made = list(Ovn(userspace=True).setup("o"))
    assert of(Chassis, made) == [Chassis(userspace=True)]
    (rule,) = of(Rule, made)  # the host must not read containers' packets beside Open vSwitch
    assert (rule.chain, rule.args) == ("PREROUTING", ("-i", "nkv+", "-j", "DROP"))
    assert len(made) == 2
    assert list(Ovn().setup("o")) == [Chassis()]


def test_the_datapath_is_the_kernels_where_it_has_one() -> None:
    for facts, userspace in ((HostFacts(), True), (HostFacts(openvswitch=True), False)):
        (chassis,) = of(Chassis, Ovn().configure_for(facts).setup("o"))
        assert chassis.userspace is userspace


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nb": "10.0.0.1"}, "invalid value '10.0.0.1' for option nb: use tcp:IP:PORT"),
        ({"nb": "tcp:host:6641"}, "option nb"),
        ({"nb": "tcp:10.0.0.1:66410"}, "option nb"),
        ({"nb": ""}, "option nb"),
        ({"nb": "unix:nb.sock"}, "option nb"),
        ({"nb": ",".join([NB] * 9)}, "16 at most"),
        ({"mtu": "12"}, "option mtu: use 68 to 65535"),
        ({"mtu": "1400", "com.docker.network.driver.mtu": "1400"}, "are the same: give one"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        Ovn().parse(options)


def test_the_northbound_database_is_the_networks_or_the_hosts_and_one() -> None:
    net = network(nb=NB)
    assert of(Northbound, Ovn().network(net)) == [Northbound(remote=NB)]
    assert of(Northbound, Ovn().network(network())) == []
    Ovn(FACTS).policy(net)
    with pytest.raises(InvalidSpec, match=r"netkitd --ovn-nb is tcp:10\.0\.0\.1:6641,tcp"):
        Ovn(FACTS).policy(network(nb="tcp:10.0.0.3:6641"))


def test_a_cluster_may_have_such_networks() -> None:
    driver = Ovn()
    assert isinstance(driver, MultiHost)
    driver.check_span(network(nb=NB))


# -- access rules -------------------------------------------------------------------


def test_rules_are_acls_in_their_order_after_what_the_host_sends() -> None:
    rules = (drop(2, priority=5), drop(1, priority=1, verdict="accept"))
    host, *found = acls(*rules)
    assert (host.allow, host.text.count("eth.src")) == (True, 1)
    assert [(a.allow, a.name.split("-")[1][-1]) for a in found] == [(True, "1"), (False, "2")]
    assert host.priority > found[0].priority > found[1].priority > 0
    assert len({a.key for a in (host, *found)}) == 3


def test_without_rules_there_are_no_acls() -> None:
    assert acls() == []
    assert acls(drop(1, link=True)) == [] == acls(drop(1, published=True))
    internal = replace(network(), internal=True)
    assert len(acls(drop(1, published=True), net=internal)) == 2


def test_priorities_stay_within_ovns_range() -> None:
    found = acls(*(drop(n, priority=n) for n in range(21_000)))
    assert {0 < a.priority <= 32767 for a in found} == {True}


def test_the_text_of_a_match_is_made_of_values() -> None:
    rule = drop(
        1, proto="tcp", first=80, last=90,
        sources=(IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.1/32")),
    )  # fmt: skip
    name = f"{switch_name(network())}-{'09' * 6}"
    assert acls(rule)[1].text == (
        f'outport == "{name}" && ip4 && ip4.src == {{10.0.0.0/8, 192.0.2.1/32}} && '
        "ip4.dst == 10.70.0.9 && tcp && tcp.dst >= 80 && tcp.dst <= 90"
    )


@pytest.mark.parametrize(
    ("match", "text"),
    [
        (Match(outport="p"), 'outport == "p" && ip4'),
        (Match(outport="p", sources=(IPv4Network("0.0.0.0/0"),)), 'outport == "p" && ip4'),
        (Match(outport="p", proto="sctp", first=7),
         'outport == "p" && ip4 && sctp && sctp.dst == 7'),
        (Match(outport="p", proto="udp", first=7, last=7),
         'outport == "p" && ip4 && udp && udp.dst == 7'),
        (Match(outport="p", from_mac="02:00:00:00:00:01"),
         'outport == "p" && eth.src == 02:00:00:00:00:01 && ip4'),
    ],
)  # fmt: skip
def test_the_forms_of_a_match(match: Match, text: str) -> None:
    assert str(match) == text


def test_ports_without_a_protocol_are_no_match() -> None:
    with pytest.raises(ValueError, match="ports are of a protocol"):
        Match(outport="p", first=80)


def test_rows_have_the_same_identity_everywhere_and_differ_by_table_and_name() -> None:
    assert identity("ACL", "a") == identity("ACL", "a")
    assert len({identity(t, n) for t in ("ACL", "Logical_Switch") for n in ("a", "b")}) == 4


def test_what_the_host_has_of_a_network_has_its_name_within_the_kernels_limit() -> None:
    assert len(gateway_name(network())) <= 15
    assert gateway_name(network()) != gateway_name(network(id="d" * 64))
    assert ("link", HOST, gateway_name(network())) in of(Addr, Ovn().network(network()))[0].needs
