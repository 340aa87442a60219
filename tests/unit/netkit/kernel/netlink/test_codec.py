"""Netlink framing and the values read from it, without a kernel."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netkit.errors import KernelError
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Reply, attr, attributes, nest, payload_error, string


@pytest.mark.slow
@given(st.dictionaries(st.integers(1, 200), st.binary(max_size=60)))
def test_attributes_survive_the_wire(values):
    raw = b"".join(attr(k, v) for k, v in values.items())
    assert attributes(raw) == values
    assert len(raw) % 4 == 0


@pytest.mark.slow
@given(st.binary(max_size=80))
def test_broken_attributes_never_hang_or_raise(raw):
    attributes(raw)


def test_nested_attributes_lose_their_flag():
    assert attributes(nest(18, string(1, "veth"))) == {18: attr(1, b"veth\0")}


def test_an_error_carries_its_number_and_the_kernels_words():
    header = bytes(16)
    assert payload_error(struct.pack("=i", 0) + header) == (0, "")
    raw = struct.pack("=i", -22) + header + attr(1, b"Nexthop has invalid gateway\0")
    assert payload_error(raw) == (22, "Nexthop has invalid gateway")
    with pytest.raises(KernelError, match=r"add it: Invalid argument \(Nexthop") as e:
        Reply(*payload_error(raw)).check("add it")
    assert e.value.errno == 22


def _decoded(kind, request):
    """What pyroute2 reads from one of our requests."""
    body = request.body
    message = kind(struct.pack("=IHHII", 16 + len(body), request.kind, request.flags, 1, 0) + body)
    message.decode()
    return message


def test_pyroute2_reads_our_veth_as_we_mean_it():
    far = rtnl.far_end("eth0", 70001, 9, mtu=1400, mac="02:42:ac:11:00:02")
    m = _decoded(ifinfmsg, rtnl.veth("veth1", 70000, far, mtu=1400, mac=None))
    assert (m["index"], m.get_attr("IFLA_IFNAME"), m.get_attr("IFLA_MTU")) == (70000, "veth1", 1400)
    info = m.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer["index"] == 70001
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_NET_NS_FD") == 9
    assert peer.get_attr("IFLA_ADDRESS") == "02:42:ac:11:00:02"


def test_pyroute2_reads_our_addresses_routes_and_neighbours():
    a = _decoded(ifaddrmsg, rtnl.new_addr(7, ip_interface("10.1.2.3/20")))
    assert (a["index"], a["prefixlen"], a.get_attr("IFA_LOCAL")) == (7, 20, "10.1.2.3")
    assert a.get_attr("IFA_BROADCAST") == "10.1.15.255"
    gateway = ip_address("10.1.2.1")
    r = _decoded(rtmsg, rtnl.new_route(ip_network("10.9.0.0/16"), 7, gateway, replace=False))
    assert (r["dst_len"], r["proto"], r["scope"]) == (16, rtnl.RTPROT_NETKIT, 0)
    assert (r.get_attr("RTA_DST"), r.get_attr("RTA_OIF")) == ("10.9.0.0", 7)
    assert r.get_attr("RTA_GATEWAY") == "10.1.2.1"
    n = _decoded(ndmsg, rtnl.new_neigh(7, gateway, "02:00:00:00:00:01"))
    assert (n["ifindex"], n["state"]) == (7, rtnl.NUD_PERMANENT)
    assert n.get_attr("NDA_LLADDR") == "02:00:00:00:00:01"


@pytest.mark.slow
@given(st.ip_addresses(), st.integers(0, 32))
def test_an_address_is_read_back(ip, length):
    address = ip_interface(f"{ip}/{length}")
    request = rtnl.new_addr(3, address)
    seen = rtnl.seen_addr(request.body)
    assert (seen.address, seen.proto) == (address, rtnl.RTPROT_NETKIT)


@pytest.mark.slow
@given(st.ip_addresses(), st.integers(0, 32), st.integers(1, 1 << 30))
def test_a_route_is_read_back(ip, length, oif):
    dst = ip_network(f"{ip}/{length}", strict=False)
    seen = rtnl.seen_route(rtnl.new_route(dst, oif, ip, replace=True).body)
    assert (seen.dst, seen.oif, seen.gateway) == (dst, oif, ip)
