"""Which options of a network are misspellings of ours, and which are another tool's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from netkit.errors import InvalidSpec
from netkit.network.driver_options import misspelt, unread
from plugins.bridge import Bridge
from plugins.lan import Lan
from plugins.ovs import Ovs

NET = "com.docker.network."
BR = f"{NET}bridge."


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        (f"{NET}mtu", f"{NET}driver.mtu"),
        ("mtu", f"{NET}driver.mtu"),
        (f"{BR}enable_ic", f"{BR}enable_icc"),
        (f"{BR}enabel_icc", f"{BR}enable_icc"),
        (f"{NET}brigde.name", f"{BR}name"),
        ("com.docker.netwrk.bridge.name", f"{BR}name"),
        ("netkit.container_iface_prefx", f"{NET}container_iface_prefix"),
    ],
)
def test_misspellings_are_distinguished_from(key: str, meant: str) -> None:
    assert misspelt(key, Bridge.options) == meant
    with pytest.raises(InvalidSpec, match=f"unknown option '{key}' .*: did you mean {meant}?"):
        unread([key], Bridge.options, "the bridge driver")


@pytest.mark.parametrize(
    "key",
    [
        "zzz", "parent", "macvlan_mode", "com.example.name", "com.example.mtu", "encrypted",
        f"{NET}driver.overlay.vxlanid_list", f"{NET}windowsshim.networkname",
        f"{NET}advertise_addr_nmsgs", f"{NET}advertise_addr_ms", "org.opencontainers.mode",
    ],
)  # fmt: skip
def test_foreign_options(key: str) -> None:
    assert unread([key], Bridge.options, "the bridge driver") == [
        f"option {key!r} has no effect: the bridge driver does not know it"
    ]


def test_short_names_of_drivers_of_ours() -> None:
    assert misspelt("peer", Ovs.options) == "peers"
    assert misspelt("parnt", Lan.options) == "parent"
    assert misspelt("vlan", Lan.options) == misspelt("datapath", Ovs.options) == ""


def test_what_a_driver_reads_and_what_the_api_reads_is_not_warned_of() -> None:
    assert unread([*Bridge.options, f"{NET}enable_ipv6"], Bridge.options, "") == []


def stated() -> Iterator[tuple[Bridge | Lan | Ovs, str, str]]:
    """List (driver, option, default in `net create --help`), where the default is a value."""
    for driver in (Bridge(), Lan(), Ovs()):
        known = driver.options
        assert isinstance(known, Mapping)
        for key, about in known.items():
            if found := re.search(r"\(default (true|false|[a-z]+|[0-9.]+)\)", about):
                yield driver, key, found[1].removeprefix("none")


@pytest.mark.parametrize(("driver", "key", "value"), [*stated()])
def test_a_default_in_the_help_is_what_nothing_given_means(
    driver: Bridge | Lan | Ovs, key: str, value: str
) -> None:
    needed = {"bridge": "br0"} if driver.name == "lan" else {}
    assert driver.parse({**needed, key: value}) == driver.parse(needed)


def test_most_defaults_are_values() -> None:
    assert len([*stated()]) >= 13
