"""The ovn driver through a real daemon, which makes its host a chassis of an OVN beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netkit.lab.openvswitch import OpenVSwitch
from netkit.lab.ovn import NORTHBOUND, Central, Controller
from tests.engine import wire
from tests.engine.daemon import Engine, netkit_only
from tests.engine.test_ovs import pings
from tests.engine.wire import Wire

pytestmark = [
    netkit_only("the ovn driver"),
    pytest.mark.skipif(not shutil.which("ovn-controller"), reason="needs ovn-host, ovn-central"),
]
SERVE = "httpd -p 81 -h /www; exec httpd -f -h /www"
PIDFILES = ("nb/ovsdb-server.pid", "sb/ovsdb-server.pid", "ovn-northd.pid")
PATIENCE = 60.0  # seconds, on a loaded machine


@dataclass(frozen=True)
class Chassis:
    engine: Engine
    vswitch: OpenVSwitch
    central: Central

    def ports(self) -> list[str]:
        found = self.vswitch.vsctl("list-ports", "br-int").split()
        return sorted(p for p in found if p.startswith("nk"))

    def rows(self, table: str) -> list[str]:
        return self.central.nbctl("--bare", "--columns=_uuid", "list", table).split()


@pytest.fixture(scope="module")
def chassis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chassis]:
    laid = Wire.lay()
    home = f"/run/netns/{laid.host}"
    vswitch = OpenVSwitch(home, tmp_path_factory.mktemp("ovs"))
    central, controller = Central(home, tmp_path_factory.mktemp("ovn")), Controller(vswitch)
    flags = (
        "--ovs-db", vswitch.remote, "--ovn-nb", "tcp:127.0.0.1:6641",
        "--ovn-sb", "tcp:127.0.0.1:6642", "--ovn-encap-ip", wire.HOST,
    )  # fmt: skip
    try:
        vswitch.start()
        central.start()
        controller.start()
        engine = Engine(laid, flags=flags)
        try:
            engine.start()
            engine.load_image()
            yield Chassis(engine, vswitch, central)
        finally:
            engine.destroy()
    finally:
        controller.stop()
        central.remove()
        vswitch.remove()
        laid.remove()


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, "not within the time it may take"
        time.sleep(0.1)


def gets(engine: Engine, client: str, port: int = 80) -> bool:
    words = ("exec", client, "nc", "-w", "2", "one", f"{port}")
    return engine.docker(*words, check=False).returncode == 0


def test_containers_names_ports_and_rules_of_a_network_live_and_go(chassis: Chassis) -> None:
    engine = chassis.engine
    engine.docker("network", "create", "--driver", "ovn", "--subnet", "10.70.0.0/24", "wide")
    try:
        for name in ("one", "two", "three"):
            published = ("-p", "8080:80") if name == "one" else ()
            engine.docker("run", "-d", "--name", name, "--network", "wide", *published,
                          "busybox", "sh", "-c", SERVE)  # fmt: skip
        inspected = json.loads(engine.out("network", "inspect", "wide"))[0]
        assert inspected["Driver"] == "ovn"
        assert pings(engine, "two", "one")
        assert gets(engine, "two")
        assert pings(engine, "two", wire.NEIGHBOUR), "by its host, masqueraded"
        rule = engine.netkit("fw", "drop", "--src", "two", "--to", "one", "--port", "80/tcp")
        assert rule.stderr == ""
        assert (gets(engine, "two"), gets(engine, "two", 81)) == (False, True)
        assert gets(engine, "three")
        engine.kill9()
        engine.restart()
        assert (gets(engine, "two"), gets(engine, "three")) == (False, True)
        assert engine.netkit("fw", "check").returncode == 0
        engine.netkit("fw", "rm", rule.stdout.split()[0])
        assert gets(engine, "two")
        assert chassis.rows("ACL") == []
    finally:
        engine.docker("rm", "-f", "one", "two", "three", check=False)
        engine.docker("network", "rm", "wide", check=False)
    assert (chassis.rows("Logical_Switch"), chassis.rows("Logical_Switch_Port")) == ([], [])
    assert chassis.ports() == []


def test_what_was_left_while_a_database_and_the_daemon_were_down_goes(chassis: Chassis) -> None:
    engine = chassis.engine
    engine.docker("network", "create", "--driver", "ovn", "--subnet", "10.70.0.0/24", "wide")
    engine.docker("run", "-d", "--name", "one", "--network", "wide", "busybox", "sleep", "300")
    chassis.central.kill(NORTHBOUND)
    try:
        engine.docker("rm", "-f", "one")
        engine.kill9()
        engine.restart()  # without the database, too
        assert engine.out("ps", "-aq") == ""
        assert len(chassis.ports()) == 1, "the gateway's: its network is ready"
    finally:
        chassis.central.start_database(NORTHBOUND)
    eventually(lambda: len(chassis.rows("Logical_Switch_Port")) == 1)
    eventually(lambda: works(engine))
    engine.docker("network", "rm", "wide")
    assert (chassis.rows("Logical_Switch"), chassis.ports()) == ([], [])


def works(engine: Engine) -> bool:
    """northd finds its database some seconds after that is back."""
    argv = ("run", "--rm", "--network", "wide", "busybox", "true")
    return engine.docker(*argv, check=False).returncode == 0


def test_flags_that_do_not_fit_the_administrators_rows_are_refused(chassis: Chassis) -> None:
    engine, vswitch = chassis.engine, chassis.vswitch
    argv = ("network", "create", "--driver", "ovn", "-o", "nb=tcp:127.0.0.9:6641", "wide")
    refused = engine.docker(*argv, check=False)
    assert refused.returncode == 1
    assert "netkitd --ovn-nb is tcp:127.0.0.1:6641" in refused.stderr
    before = vswitch.vsctl("get", "Open_vSwitch", ".", "external_ids:netkit-ovn")
    vswitch.vsctl("remove", "Open_vSwitch", ".", "external_ids", "netkit-ovn")
    vswitch.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:127.0.0.7:6642")
    try:
        argv = ("network", "create", "--driver", "ovn", "--subnet", "10.70.0.0/24", "wide")
        refused = engine.docker(*argv, check=False)
        assert "external_ids:ovn-remote=tcp:127.0.0.7:6642 already, not" in refused.stderr
    finally:
        vswitch.vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:127.0.0.1:6642",
                      f"external_ids:netkit-ovn={before.strip()}")  # fmt: skip
    assert engine.out("network", "ls", "-qf", "name=wide") == ""


def test_servers_of_an_ovn_come_are_looked_after_and_go(chassis: Chassis) -> None:
    """On an address of their own: those of the chassis are on all of this host's."""
    engine = Engine(Wire.lay())
    try:
        engine.start()
        refused = engine.netkit("ovn", "up", "--address", wire.HOST, check=False)
        assert refused.returncode == 1
        assert "--cluster-tls-ca" in refused.stderr
        assert "--insecure" in refused.stderr
        made = engine.netkit("ovn", "up", "--address", "127.0.0.1")
        assert "--ovn-nb tcp:127.0.0.1:6641 --ovn-sb tcp:127.0.0.1:6642" in made.stdout
        assert made.stderr == "", "who listens on the loopback needs no TLS"
        pidfiles = [engine.rundir / "ovn" / name for name in PIDFILES]
        eventually(lambda: well(engine))
        before = [file.read_text() for file in pidfiles]
        engine.netkit("ovn", "up")
        assert [file.read_text() for file in pidfiles] == before, "what runs is left alone"
        engine.kill9()
        killed = [int(text) for text in before]
        os.kill(killed[0], signal.SIGKILL)
        os.kill(killed[2], signal.SIGKILL)
        engine.restart()
        eventually(lambda: well(engine))
        after = [int(file.read_text()) for file in pidfiles]
        assert [a == b for a, b in zip(after, killed, strict=True)] == [False, True, False]
        engine.netkit("ovn", "down")
        none = engine.netkit("ovn", "status", check=False)
        assert (none.returncode, "netkit ovn up" in none.stdout) == (1, True)
        assert not [pid for pid in after if Path(f"/proc/{pid}").exists()]
        assert not (engine.root / "ovn").exists()
    finally:
        engine.netkit("ovn", "down", "--force", check=False)
        engine.destroy()


def well(engine: Engine) -> bool:
    found = engine.netkit("ovn", "status", check=False)
    ended = found.returncode == 0 and "Problem:" not in found.stdout
    return ended and found.stdout.count(" leader ") == 2 and "Northd:      active" in found.stdout
