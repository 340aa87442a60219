"""The way by a VXLAN device of the kernel's that is a port of Open vSwitch."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netkit.diagnose.trace import switch_device
from netkit.diagnose.trace.facts import HOST, Nic, Output, SwitchPort, Way
from netkit.diagnose.trace.leg import Stop, Tunnel
from netkit.model.vxlan import ALL
from tests.unit.netkit.diagnose.test_trace import FakeHost, switched, traced

DEVICE = SwitchPort(name="nkvx1", bridge="obr0", number=9)
PEERS = (IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3"))


def device_host(*, up: bool = True, peers: tuple[IPv4Address, ...] = PEERS) -> FakeHost:
    """client is a port of obr0; frames for web leave by the device."""
    fake = switched(Output(port="nkvx1"))
    fake.ports = (*fake.ports, DEVICE)
    host = fake.spaces[HOST]
    nics = {**host.nics, "nkvx1": Nic(name="nkvx1", kind="vxlan", vni=5, up=up)}
    tunnels = {("nkvx1", ALL): peers} if peers else {}
    fake.spaces[HOST] = replace(host, nics=nics, tunnels=tunnels)
    for peer in PEERS:
        way = Way(dev="lan0", prefix="10.0.0.0/24", source=IPv4Address("10.0.0.1"))
        fake.ways[HOST, str(peer)] = way
    return fake


def test_it_leads_to_the_hosts_of_its_table() -> None:
    found = traced(device_host(), target="172.17.0.2")
    assert found.code == "beyond"
    assert "VXLAN device tunnel to 10.0.0.2 or 10.0.0.3" in found.words


def test_it_leads_to_the_host_of_a_containers_entry_alone() -> None:
    fake = device_host()
    host = fake.spaces[HOST]
    mac = "02:42:ac:11:00:02"
    fake.spaces[HOST] = replace(host, tunnels={**host.tunnels, ("nkvx1", mac): PEERS[1:]})
    said: list[str] = []
    tunnels, _ = switch_device.leaving("nkvx1", mac, fake, lambda *words: said.append(words[2]))
    assert tunnels == [
        Tunnel(kind=switch_device.KIND, remote="10.0.0.3", local="10.0.0.1", key=5)
    ]
    assert said == ["nkvx1, VXLAN device with key 5, sends it to 10.0.0.3"]


@pytest.mark.parametrize(
    ("fake", "code"),
    [(device_host(up=False), "link-down"), (device_host(peers=()), "tunnel-down")],
)
def test_one_that_leads_nowhere_is_reported(fake: FakeHost, code: str) -> None:
    assert traced(fake, target="172.17.0.2").code == code


def test_what_a_peer_sends_comes_in_by_the_device_of_its_key() -> None:
    fake = device_host()
    came = Tunnel(kind=switch_device.KIND, remote="10.0.0.1", local="10.0.0.2", key=5)
    assert switch_device.entered(came, fake) == DEVICE
    assert switch_device.entered(replace(came, key=6), fake) is None
    assert switch_device.entered(replace(came, kind="vxlan"), fake) is None
    with pytest.raises(Stop, match="no peer"):
        switch_device.entered(replace(came, local="10.0.0.9"), fake)
