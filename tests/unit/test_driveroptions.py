"""Which options of a network are misspellings of ours, and which are another tool's."""

from __future__ import annotations

import pytest

from netkit.driveroptions import misspelt, unread
from netkit.errors import InvalidSpec
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
def test_misspellings_are_told_from(key: str, meant: str) -> None:
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
def test_options_of_others(key: str) -> None:
    assert unread([key], Bridge.options, "the bridge driver") == [
        f"option {key!r} has no effect: the bridge driver does not know it"
    ]


def test_short_names_of_drivers_of_ours() -> None:
    assert misspelt("peer", Ovs.options) == "peers"
    assert misspelt("parnt", Lan.options) == "parent"
    assert misspelt("vlan", Lan.options) == misspelt("datapath", Ovs.options) == ""


def test_what_a_driver_reads_and_what_the_api_reads_is_not_warned_of() -> None:
    assert unread([*Bridge.options, f"{NET}enable_ipv6"], Bridge.options, "") == []
