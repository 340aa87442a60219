"""Servers of OVN with RAFT, each at an address of its own in one namespace: real programs."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netkit.cluster.ovn import OvnServers
from netkit.cluster.ovn_status import OvnStatus, status
from netkit.cluster.tls import Certificates
from netkit.errors import Conflict, Forbidden, InvalidSpec, KernelError
from netkit.kernel import netns
from netkit.lab.openvswitch import DATABASE, SWITCH, OpenVSwitch
from netkit.lab.ovn import Controller
from netkit.testing.waiting import eventually
from tests.authority import Authority

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovn-northd"), reason="needs ovn-central"),
]
ADDRESSES = [f"10.9.0.{n}" for n in (1, 2, 3)]


class Site:
    """Hosts by number.  All run in this thread, which is in the namespace."""

    def __init__(self, place: Path, certificates: list[Certificates] | None = None) -> None:
        self.place = place
        self.hosts = [
            OvnServers(
                place / f"root{n}", place / f"run{n}", certificates[n] if certificates else None
            )
            for n in range(3)
        ]

    def pids(self, host: int) -> dict[str, int]:
        """Those that run, by program and database."""
        found = {}
        for file in (self.place / f"run{host}").rglob("*.pid"):
            with suppress(OSError):
                pid = int(file.read_text())
                if f"{self.place}" in Path(f"/proc/{pid}/cmdline").read_text():
                    found[f"{file.parent.name}/{file.stem}"] = pid
        return found

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.place)) for p in self.place.rglob("*"))

    def nbctl(self, host: int, *argv: str) -> str:
        servers = self.hosts[host]
        command = ["ovn-nbctl", f"--db={servers.north.remotes}", "--timeout=20", *argv]
        if servers.certificates is not None:
            command[1:1] = servers.certificates.files()
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def chassis(self, host: int) -> list[str]:
        servers = self.hosts[host]
        flags = servers.certificates.files() if servers.certificates else []
        argv = ["--timeout=20", "--bare", "--columns=name", "list", "Chassis"]
        command = ["ovn-sbctl", f"--db={servers.south.remotes}", *flags, *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    def healthy(self, host: int, count: int) -> bool:
        """Whether that host sees `count` servers of each database, all of which answer."""
        found = status(self.hosts[host])
        roles = [view.role for view in found.servers if view.role in {"leader", "follower"}]
        return found.quorum and not found.problems and len(found.servers) == len(roles) == 2 * count


@contextmanager
def site(folder: Path, *, tls: bool = False) -> Iterator[Site]:
    home = f"/run/netns/nk-{secrets.token_hex(3)}s"
    place = Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp"))
    files = None
    if tls:
        authority = Authority(folder / "authority")
        files = [authority.host(f"h{n}") for n in range(3)]
    netns.create(home)
    made = Site(place, files)
    try:
        with netns.inside(home):
            for address in ADDRESSES:
                subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
            yield made
    finally:
        for servers in made.hosts:
            servers.remove()
        shutil.rmtree(place)
        netns.remove(home)


def role(found: OvnStatus, database: str, address: str) -> str:
    return next(v.role for v in found.servers if (v.database, v.address) == (database, address))


def becomes_healthy(at: Site, host: int, count: int) -> None:
    eventually(lambda: at.healthy(host, count), what=f"{count} servers, for host {host},")


def test_one_server_is_made_goes_on_after_kills_and_leaves_nothing(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        host = at.hosts[0]
        host.up("127.0.0.1")
        becomes_healthy(at, 0, 1)
        assert host.north.remotes == "tcp:127.0.0.1:6641"
        at.nbctl(0, "ls-add", "wide")
        before = at.pids(0)
        assert sorted(before) == ["nb/ovsdb-server", "run0/ovn-northd", "sb/ovsdb-server"]
        host.up("127.0.0.1")
        assert at.pids(0) == before, "nothing that runs is touched"
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not at.pids(0))
        host.up("127.0.0.1")
        becomes_healthy(at, 0, 1)
        assert len(at.pids(0)) == 3
        assert "wide" in at.nbctl(0, "ls-list")
        with pytest.raises(Conflict, match=r"have the address 127\.0\.0\.1, not 10\.9\.0\.1"):
            host.up(ADDRESSES[0])
        with pytest.raises(Forbidden, match=r"logical switches are in its database: wide; remove"):
            host.down()
        assert len(at.pids(0)) == 3
        at.nbctl(0, "ls-del", "wide")
        host.down()
        assert (at.pids(0), at.files()) == ({}, [])
        with pytest.raises(Conflict, match="no servers of OVN on this host"):
            host.down()


def test_what_netkitd_looks_after_is_started_again_one_by_one(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        host = at.hosts[0]
        host.up("127.0.0.1")
        for name, pid in at.pids(0).items():
            os.kill(pid, signal.SIGKILL)

            def back(name: str = name, pid: int = pid) -> bool:
                host.ensure()
                return at.pids(0).get(name, pid) != pid

            eventually(back)
        becomes_healthy(at, 0, 1)


def test_three_servers_with_tls_outlive_a_leader_and_a_lost_disk(tmp_path: Path) -> None:
    with site(tmp_path, tls=True) as at:
        first, second, third = at.hosts
        first.up(ADDRESSES[0])
        second.up(ADDRESSES[1], ADDRESSES[0])
        third.up(ADDRESSES[2], ADDRESSES[0])
        becomes_healthy(at, 2, 3)
        assert role(status(third), "OVN_Northbound", ADDRESSES[0]) == "leader"
        assert third.north.remotes.count("ssl:10.9.0.") == 3
        at.nbctl(2, "ls-add", "wide")

        os.kill(at.pids(0)["nb/ovsdb-server"], signal.SIGKILL)
        eventually(lambda: status(third).quorum)
        at.nbctl(2, "ls-add", "more")
        found = status(third)
        gone = next(v for v in found.servers if v.address == ADDRESSES[0])
        assert (gone.role, found.quorum) == ("", True)
        assert "does not answer (Connection refused)" in gone.problem
        first.ensure()
        becomes_healthy(at, 2, 3)

        for pid in at.pids(1).values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not at.pids(1))
        shutil.rmtree(at.place / "root1" / "nb")
        (at.place / "root1" / "sb" / "ovn_southbound.db").unlink()
        second.up(ADDRESSES[1], ADDRESSES[0])
        becomes_healthy(at, 2, 3)
        becomes_healthy(at, 1, 3)
        assert "wide" in at.nbctl(1, "--no-leader-only", "ls-list")

        third.down()
        becomes_healthy(at, 0, 2)
        assert not at.pids(2)
        second.down()
        becomes_healthy(at, 0, 1)
        with pytest.raises(Forbidden, match=r"in its database: (wide, more|more, wide); remove"):
            first.down()


def test_a_controller_that_has_the_files_in_open_vswitchs_row_is_a_chassis(tmp_path: Path) -> None:
    with site(tmp_path, tls=True) as at:
        host = at.hosts[0]
        host.up(ADDRESSES[0])
        files = host.certificates
        assert files is not None
        vswitch = OpenVSwitch(netns.OWN, at.place / "ovs")
        controller = Controller(vswitch)
        try:
            vswitch.start()
            vswitch.vsctl("set-ssl", str(files.key), str(files.cert), str(files.ca))
            vswitch.vsctl(
                "set", "Open_vSwitch", ".", "external_ids:system-id=one",
                f"external_ids:ovn-remote={host.south.remotes}",
                "external_ids:ovn-encap-type=geneve",
                f"external_ids:ovn-encap-ip={ADDRESSES[0]}",
                "external_ids:ovn-bridge-datapath-type=netdev",
            )  # fmt: skip
            controller.start()
            eventually(lambda: at.chassis(0) == ["one"])
        finally:
            controller.stop()
            vswitch.kill(SWITCH)
            vswitch.kill(DATABASE)


def test_without_most_servers_that_is_reported_and_force_ends_it(tmp_path: Path) -> None:
    with site(tmp_path) as at:
        first, second, third = at.hosts
        first.up(ADDRESSES[0])
        second.up(ADDRESSES[1], ADDRESSES[0])
        third.up(ADDRESSES[2], ADDRESSES[0])
        becomes_healthy(at, 0, 3)
        for pid in (*at.pids(1).values(), *at.pids(2).values()):
            os.kill(pid, signal.SIGKILL)

        eventually(lambda: role(status(first), "OVN_Northbound", ADDRESSES[0]) == "candidate")
        eventually(lambda: role(status(first), "OVN_Southbound", ADDRESSES[0]) == "candidate")
        found = status(first)
        assert (found.quorum, role(found, "OVN_Southbound", ADDRESSES[1])) == (False, "")
        with pytest.raises(KernelError, match=r"most servers of OVN_\w+ do not answer, which"):
            first.down()
        assert len(at.pids(0)) == 3
        second.ensure()
        eventually(lambda: status(first).quorum)
        third.remove()  # as if its host was lost
        first.kick(ADDRESSES[2])
        becomes_healthy(at, 0, 2)
        first.remove()
        assert not at.pids(0)


def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site(tmp_path) as at, socket.socket() as taken:
        host = at.hosts[0]
        with pytest.raises(InvalidSpec, match=r"this host has no address 10\.9\.0\.77"):
            host.up("10.9.0.77")
        taken.bind((ADDRESSES[0], 6645))
        taken.listen()
        with pytest.raises(Conflict, match=r"OVN_Southbound needs 10\.9\.0\.1:6645, which \S+,"):
            host.up(ADDRESSES[0])
        with pytest.raises(KernelError, match=r"10\.9\.0\.2:6641 does not answer .*netkit ovn up"):
            host.up(ADDRESSES[0], ADDRESSES[1])
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(KernelError, match="ovsdb-server is missing: install openvswitch"):
            host.up(ADDRESSES[0])
        assert (at.pids(0), at.files()) == ({}, [])
