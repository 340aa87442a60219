"""Points and filters of a command line."""

from __future__ import annotations

import pytest

from netkit.capture.words import Spot, parted, spot


@pytest.mark.parametrize(
    ("words", "points", "filter"),
    [
        (["web"], ("web",), ""),
        (["web", "db"], ("web", "db"), ""),
        (["web", "icmp"], ("web",), "icmp"),
        (["web", "db:back", "tcp", "port", "80"], ("web", "db:back"), "tcp port 80"),
        (["web", "tcp port 80"], ("web",), "tcp port 80"),
        (["web", "len>100"], ("web",), "len>100"),
        (["icmp"], ("icmp",), ""),  # the first is a point, whatever its name
        (["web", "host@eth0", "host", "10.0.0.1"], ("web", "host@eth0"), "host 10.0.0.1"),
    ],
)
def test_the_filter_begins_with_its_first_keyword(
    words: list[str], points: tuple[str, ...], filter: str
) -> None:
    assert parted(words) == (points, filter)


def test_a_spot_is_a_name_with_a_network_or_an_interface() -> None:
    assert spot("web") == Spot(owner="web")
    assert spot("web:back") == Spot(owner="web", network="back")
    assert spot("h1@eth0") == spot("h1/eth0") == Spot(owner="h1", interface="eth0")
    assert spot("h1@eth0:1") == Spot(owner="h1", interface="eth0:1")


@pytest.mark.parametrize("text", ["@eth0", "h1@", "/eth0", "web:", ":back"])
def test_half_a_spot_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="lacks a name"):
        spot(text)
