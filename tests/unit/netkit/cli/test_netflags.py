"""netkit's own notation of --network: a network with addresses on it."""

from __future__ import annotations

import pytest

from netkit.cli.netflags import ADDRESSES, attachment


@pytest.mark.parametrize(
    ("text", "name", "addresses"),
    [
        ("weave:10.2.1.1/24", "weave", "10.2.1.1/24"),
        ("my-net.1:ip:10.2.1.1/24,net:default", "my-net.1", "ip:10.2.1.1/24,net:default"),
        ("weave:net:10.2.0.0/16", "weave", "net:10.2.0.0/16"),
        ("weave:10.2.1.1", "weave", "10.2.1.1"),  # for the daemon to refuse
    ],
)
def test_addresses_follow_the_name_of_the_network(text: str, name: str, addresses: str) -> None:
    assert attachment(text) == {"Target": name, "DriverOpts": {ADDRESSES: addresses}}


@pytest.mark.parametrize("text", ["weave", "container:10f", "container:net:x", "weave:", "a:b"])
def test_all_else_is_as_docker_has_it(text: str) -> None:
    assert attachment(text) == {"Target": text}


def test_docker_s_long_notation_has_them_as_an_option_of_the_driver() -> None:
    given = attachment("name=weave,driver-opt=netkit.addresses=10.2.1.1/24 net:default")
    assert given["DriverOpts"] == {ADDRESSES: "10.2.1.1/24 net:default"}
