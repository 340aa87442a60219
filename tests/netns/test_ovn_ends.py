"""Tunnel endpoints that cannot work are refused when a network is made, and leave nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from netkit.driver import OvnFacts
from netkit.errors import InvalidSpec, NetkitError, NotFound
from plugins.ovn import Ovn
from tests.netns.ovs_hosts import OvsHost, hosts, run

pytestmark = pytest.mark.root
SOUTHBOUND = "tcp:127.0.0.1:6642"  # never reached: endpoints are looked at first
SUBNET = "10.70.0.0/24"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def host(stack: ExitStack, folder: Path, facts: OvnFacts) -> OvsHost:
    (found,) = stack.enter_context(hosts(1, folder, more=lambda _: Ovn(facts, userspace=True)))
    return found


def state(h: OvsHost) -> tuple[str, ...]:
    """What a refused creation must leave as it was."""
    return (
        h.vswitch.vsctl("get", "Open_vSwitch", ".", "external_ids"),
        h.vswitch.vsctl("list-br"),
        run("ip", "-o", "link", at=h.home),
        *(line for line in run("iptables-save", at=h.home).splitlines() if line[0] != "#"),
    )


def refused(h: OvsHost) -> str:
    before = state(h)
    with pytest.raises(InvalidSpec) as error:
        h.create("wide", SUBNET, driver="ovn")
    assert state(h) == before
    with pytest.raises(NotFound):
        h.net.find("wide")
    return str(error.value)


def test_an_address_that_no_interface_of_the_host_has(made: ExitStack, tmp_path: Path) -> None:
    facts = OvnFacts(southbound=SOUTHBOUND, encap_ip=IPv4Address("10.9.0.77"))
    said = refused(host(made, tmp_path, facts))
    assert said.startswith("--ovn-encap-ip 10.9.0.77: no interface of this host has that address")
    assert "\n" not in said


def test_an_administrators_address_on_an_interface_of_the_kernels(
    made: ExitStack, tmp_path: Path
) -> None:
    h = host(made, tmp_path, OvnFacts())
    h.vswitch.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev")
    h.vswitch.vsctl(
        "set", "Open_vSwitch", ".", "external_ids:system-id=theirs",
        f"external_ids:ovn-remote={SOUTHBOUND}", "external_ids:ovn-encap-type=geneve",
        f"external_ids:ovn-encap-ip={h.ip}",
    )  # fmt: skip
    said = refused(h)
    assert said.startswith(f"tunnels to {h.ip} cannot work: the datapath is in user space")
    assert "\n" not in said

    # The same address on a bridge of Open vSwitch's is one where tunnels end: what is missing
    # then is the northbound database.
    run("ip", "addr", "del", f"{h.ip}/24", "dev", "eth0", at=h.home)
    h.vswitch.vsctl("add-br", "br-phys", "--", "set", "bridge", "br-phys", "datapath_type=netdev")
    run("ip", "addr", "add", f"{h.ip}/24", "dev", "br-phys", at=h.home)
    with pytest.raises(NetkitError, match="northbound database of OVN is not known"):
        h.create("wide", SUBNET, driver="ovn")
