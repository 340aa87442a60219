"""What users may request: weave's grammar, one clear line for all else."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.errors import InvalidSpec, NetkitError
from netkit.network.address_requests import FromSubnet, ThisAddress, assigned, parse, split


def test_addresses_and_subnets_are_read_and_written() -> None:
    texts = ["10.2.1.1/24", "ip:192.168.1.2/32", "net:10.32.0.0/12", "net:default"]
    requests = parse(texts)
    assert requests == (
        ThisAddress(IPv4Interface("10.2.1.1/24")),
        ThisAddress(IPv4Interface("192.168.1.2/32")),
        FromSubnet(IPv4Network("10.32.0.0/12")),
        FromSubnet(),
    )
    assert parse(map(str, requests)) == requests


def test_an_option_separates_them_by_commas_or_blanks() -> None:
    assert split(" 10.2.1.1/24, net:default\tip:10.9.0.1/16,,") == (
        "10.2.1.1/24", "net:default", "ip:10.9.0.1/16",
    )  # fmt: skip
    assert split(" , ") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.2.1.1", "it has no prefix length: write 10.2.1.1/24, net:"),
        ("web", "it has no prefix length"),
        ("net:", "it has no prefix length"),
        ("10.2.1/24", "write 10.2.1.1/24"),
        ("10.2.1.1/33", "write 10.2.1.1/24"),
        ("10.2.1.1/255.255.255.0", "write 10.2.1.1/24"),
        ("ip:net:default", "it has no prefix length"),
        ("fd00::1/64", "IPv6 is not supported yet: leave out address fd00::1/64"),
        ("10.2.1.0/24", "any address of it is net:10.2.1.0/24"),
        ("10.2.1.255/24", "network or broadcast address of 10.2.1.0/24"),
        ("net:10.2.1.1/24", "it should be net:10.2.1.0/24"),
        ("127.0.0.1/8", "no address of one host"),
        ("0.0.0.1/8", "no address of one host"),
        ("224.0.0.1/24", "no address of one host"),
        ("255.255.255.255/32", "no address of one host"),
    ],
)
def test_all_else_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(NetkitError) as refusal:
        parse([text])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_address_of_a_pair_and_of_one_is_a_host_s() -> None:
    assert len(parse(["10.0.0.0/31", "10.0.0.1/31", "10.0.0.2/32"])) == 3


def test_an_endpoint_has_a_bound_and_no_address_twice() -> None:
    eight = [f"10.2.1.{n}/24" for n in range(1, 9)]
    assert len(parse(eight)) == 8
    with pytest.raises(InvalidSpec, match="9 addresses for one endpoint: 8 at most"):
        parse([*eight, "net:default"])
    with pytest.raises(InvalidSpec, match="it is given twice"):
        parse(["10.2.1.1/24", "10.2.1.1/16"])
    with pytest.raises(InvalidSpec, match="it is given twice"):
        parse(["net:default", "net:default"])


@given(st.text(alphabet="0123456789./:netip,- default\n", max_size=40))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    refusal = ""
    try:
        requests = parse(split(text))
    except NetkitError as error:
        refusal = str(error)
    else:
        assert parse(map(str, requests)) == requests
    assert "\n" not in refusal


def test_requests_are_met_by_what_an_endpoint_has() -> None:
    have = [IPv4Interface("10.32.0.9/12"), IPv4Interface("192.168.1.2/24")]
    requests = parse(["net:default", "192.168.1.2/24", "192.168.1.2/16"][:2])
    default = IPv4Network("10.32.0.0/12")
    assert [a for _, a in assigned(requests, have, default)] == have
    others = parse(["net:10.40.0.0/16", "192.168.1.2/16"])
    assert [a for _, a in assigned(others, have, default)] == [None, None]
