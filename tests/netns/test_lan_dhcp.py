"""Containers with leases from a DHCP server on the LAN: busybox's, not one of ours."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_PACKET, SOCK_RAW, htons, socket

import pytest
import scapy.all as scapy

from netkit.driver import NoFirewall
from netkit.errors import Conflict, KernelError
from netkit.ipam.dhcp_leases import DhcpLeases
from netkit.kernel import netns
from netkit.kernel.segment.dhcp_transport import HostDhcp
from netkit.kernel.segment.prober import HostSegments
from netkit.network.controller import Controller
from netkit.reconcile.converge import ownership
from netkit.reconcile.queue import ReconcileQueue
from netkit.spec import EndpointSpec, NetworkSpec, Sandbox, SubnetSpec
from netkit.store import Database
from plugins.lan import Lan
from tests.netns.lanbox import ROUTER, LanBox, lan_box

pytestmark = pytest.mark.root

CONFIG = """
start {first}
end {last}
interface eth0
option subnet 255.255.255.0
option router 10.211.55.1
option lease {seconds}
min_lease 1
lease_file {folder}/leases
pidfile {folder}/pid
"""


@dataclass
class Netkit:
    """One netkit on the host of the box, which may end and start again."""

    box: LanBox
    path: Path
    running: list[tuple[Controller, DhcpLeases, ReconcileQueue, Database]] = field(
        default_factory=list
    )

    @property
    def net(self) -> Controller:
        return self.running[-1][0]

    def start(self, live: dict[str, Sandbox] | None = None) -> None:
        database = Database(self.path)
        worker = ReconcileQueue(self.box.host(), ownership("e1", self.box.folder))
        leases = DhcpLeases(
            database,
            HostDhcp(time.monotonic, self.box.home),
            now=time.monotonic,
            random=lambda bits: int.from_bytes(os.urandom(bits // 8), "big"),
        )
        net = Controller(
            database,
            worker,
            {"lan": Lan()},
            NoFirewall(),
            engine="e1",
            segments=HostSegments(self.box.home),
            leases=leases,
        )
        net._lifecycle.ensure_predefined = lambda: None  # type: ignore[method-assign]
        self.running.append((net, leases, worker, database))
        net.restore(live or {})

    def end(self) -> None:
        _, leases, worker, database = self.running.pop()
        leases.close()
        worker.close()
        database.close()

    def sandbox(self, n: int) -> Sandbox:
        return Sandbox(id=f"{n:064x}", name=f"c{n}", ns=f"{self.box.folder}/c{n}")

    def open(self, n: int, ip: str = "") -> str:
        want = EndpointSpec(network=self.net.find("lan0").id, ip=ip)
        (record,) = self.net.open(self.sandbox(n), [want], [])
        return record.address


@pytest.fixture
def netkit(tmp_path: Path) -> Iterator[Netkit]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with lan_box(tmp_path / "handovers") as box:
        netkit = Netkit(box, tmp_path / "db")
        netkit.start()
        try:
            yield netkit
        finally:
            if netkit.running:
                netkit.end()


def create(netkit: Netkit, *subnets: SubnetSpec) -> None:
    netkit.net.create(
        NetworkSpec(
            name="lan0",
            driver="lan",
            ipam_driver="dhcp",
            subnets=subnets,
            options={"parent": "eth0", "probe": "200"},
        )
    )


@contextmanager
def server(
    box: LanBox, folder: Path, *, first: str = "10.211.55.60", last: str = "10.211.55.69",
    seconds: int = 600,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    config = folder / "udhcpd.conf"
    config.write_text(CONFIG.format(first=first, last=last, seconds=seconds, folder=folder))
    (folder / "leases").touch()
    argv = ["nsenter", f"--net={box.at('gw')}", "busybox", "udhcpd", "-f", str(config)]
    log = (folder / "log").open("a")
    child = subprocess.Popen(argv, stdout=log, stderr=log, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        log.close()


def released(s: socket) -> str:
    """The address in the next DHCPRELEASE, as scapy reads it."""
    while True:
        frame = scapy.Ether(s.recv(2000))
        if scapy.DHCP in frame and ("message-type", 7) in frame[scapy.DHCP].options:
            return str(frame[scapy.BOOTP].ciaddr)


def test_a_container_has_an_address_and_a_router_from_the_lans_server(
    netkit: Netkit, tmp_path: Path
) -> None:
    create(netkit)
    with server(netkit.box, tmp_path):
        first, second = netkit.open(1), netkit.open(2)
        assert first != second
        for n, address in ((1, first), (2, second)):
            assert address.startswith("10.211.55.6")
            assert address.endswith("/24")
            inside = netkit.sandbox(n).ns
            assert netkit.box.pings(ROUTER, at=inside)
            assert f"default via {ROUTER}" in netkit.box.run("ip route", at=inside)
        with netns.open_socket(netkit.box.at("gw"), AF_PACKET, SOCK_RAW, htons(0x0800)) as s:
            s.settimeout(30)
            netkit.net.close(netkit.sandbox(1).id)
            assert first.split("/")[0] in released(s)
        assert netkit.open(1) == first, "the same container has the same address"
    netkit.net.close(netkit.sandbox(1).id)
    netkit.net.close(netkit.sandbox(2).id)
    netkit.net.remove("lan0")
    assert "br-eth0" not in netkit.box.run("ip link")


def test_a_lease_is_renewed_also_by_a_netkit_that_starts_again(
    netkit: Netkit, tmp_path: Path
) -> None:
    create(netkit)
    with server(netkit.box, tmp_path, seconds=6):
        netkit.open(1)
        time.sleep(7)
        assert len(netkit.net.endpoints()) == 1
        box = netkit.sandbox(1)
        netkit.end()
        netkit.start({box.id: box})
        time.sleep(7)
        assert len(netkit.net.endpoints()) == 1
        assert netkit.box.pings(ROUTER, at=box.ns)
    time.sleep(8)  # no server is there to extend the lease
    assert netkit.net.endpoints() == []
    assert not netkit.box.pings(ROUTER, at=box.ns, seconds=1)


def test_an_address_of_the_servers_that_is_in_use_is_declined(
    netkit: Netkit, tmp_path: Path
) -> None:
    create(netkit)
    # It answers ARP and not the ping with which the server asks first.
    box = netkit.box
    with server(box, tmp_path, first="10.211.55.50", last="10.211.55.51"):
        box.run("sysctl -qw net.ipv4.icmp_echo_ignore_all=1", at=box.at("other"))
        assert netkit.open(1) == "10.211.55.51/24"


def test_where_no_server_answers_the_container_does_not_start(
    netkit: Netkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netkit.ipam.dhcp_leases.PATIENCE", 1.5)
    create(netkit)
    with pytest.raises(KernelError, match="no DHCP server on br-eth0"):
        netkit.open(1)
    assert netkit.net.endpoints() == []
    assert netkit.net.remove("lan0")


def test_a_lease_of_a_container_that_did_not_start_is_given_back(
    netkit: Netkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(netkit, SubnetSpec(subnet="10.9.0.0/24"))
    refused = pytest.raises(Conflict, match=r"which is not in 10\.9\.0\.0/24")
    with server(netkit.box, tmp_path), refused:
        netkit.open(1)
    rows = netkit.running[-1][3].rows("SELECT * FROM dhcp_leases")
    assert rows == []
