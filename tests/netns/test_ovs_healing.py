"""What the ovs driver made comes back by itself, whatever removed it."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.network.controller import Controller
from netkit.store import Database
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.host import Host as HostDriver
from plugins.none import Null
from plugins.ovs import Ovs
from runtime.daemon.ovs_resync import OvsRepairs, in_openvswitch
from tests.netns.ovs_hosts import OvsHost, hosts, reaches, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("ovs-vswitchd"), reason="needs openvswitch-switch"),
]
HEALED = 20.0  # seconds, on a loaded machine; one on an idle one


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OvsHost]]:
    with hosts(2, tmp_path_factory.mktemp("healing")) as two:
        h1, h2 = two
        h1.create("mesh", "192.168.1.0/24", peers=h2.ip)
        h2.create("mesh", "192.168.1.0/24", peers=h1.ip)
        h1.open("a", "mesh", "192.168.1.11")
        h2.open("b", "mesh", "192.168.1.12")
        for h in two:
            h.guard.start()
        yield two


def br(h: OvsHost) -> str:
    return f"nko{h.net.find('mesh').id}"[:15]


def port(h: OvsHost) -> str:
    return f"nkv{h.boxes['a'].id}"[:15]


def no_flows(h: OvsHost) -> None:
    h.vswitch.ofctl("del-flows", br(h))


def one_flow_less(h: OvsHost) -> None:
    h.vswitch.ofctl("--strict", "del-flows", br(h), "table=1,priority=0")


def no_port(h: OvsHost) -> None:
    h.vswitch.vsctl("del-port", port(h))


def no_bridge(h: OvsHost) -> None:
    h.vswitch.vsctl("del-br", br(h))


def no_underlay(h: OvsHost) -> None:
    h.vswitch.vsctl("del-br", "nku0")


def underlay_deleted(h: OvsHost) -> None:
    run("ip", "link", "del", "nkuh", at=h.home)


def underlay_down(h: OvsHost) -> None:
    run("ip", "link", "set", "nkuh", "down", at=h.home)


def another_neighbour(h: OvsHost) -> None:
    """As where the way to the host was made anew: its address was at another interface before."""
    h.vswitch.appctl("tnl/neigh/set", "nku0", "169.254.250.1", "02:00:00:00:00:99")
    h.vswitch.vsctl("del-port", "nkuh")


def another_key(h: OvsHost) -> None:
    tunnels = h.vswitch.vsctl("list-ports", br(h)).split()
    (tunnel,) = (t for t in tunnels if t.startswith("g"))
    h.vswitch.vsctl("set", "interface", tunnel, "options:key=4711")


def killed_switch(h: OvsHost) -> None:
    h.vswitch.kill("ovs-vswitchd")
    h.vswitch.start_switch()


def restarted_switch(h: OvsHost) -> None:
    h.vswitch.kill("ovs-vswitchd", signal.SIGTERM)
    h.vswitch.start_switch()


def killed_database(h: OvsHost) -> None:
    h.vswitch.kill("ovsdb-server")
    h.vswitch.start_database()
    h.vswitch.ofctl("del-flows", br(h))


def killed_both(h: OvsHost) -> None:
    h.vswitch.kill("ovs-vswitchd")
    h.vswitch.kill("ovsdb-server")
    h.vswitch.start()


@pytest.mark.parametrize(
    "harm",
    [no_flows, one_flow_less, no_port, no_bridge, no_underlay, underlay_deleted, underlay_down,
     another_neighbour, another_key, killed_switch, restarted_switch, killed_database, killed_both],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_it_heals_by_itself(pair: list[OvsHost], harm: Callable[[OvsHost], None]) -> None:
    h1, h2 = pair
    assert reaches(h1.ns("a"), "192.168.1.12", seconds=60)
    harm(h1)
    begin = time.monotonic()
    while time.monotonic() - begin < 0.2 or not reaches(h1.ns("a"), "192.168.1.12", seconds=0):
        assert time.monotonic() - begin < 60, h1.guard.tally
        time.sleep(0.02)
    took = time.monotonic() - begin
    print(f"{harm.__name__}: {took:.2f} s")
    assert took < HEALED
    assert reaches(h1.ns("a"), "192.168.1.1")
    assert reaches(h2.home, "192.168.1.12")
    deadline = time.monotonic() + 60
    while h1.net.repair_drivers(in_openvswitch)[0]:  # a look finds nothing to do
        assert time.monotonic() < deadline
    assert run("ip", "-br", "link", at=h1.home).count("nkv") == 1


def test_while_the_daemon_is_down_networks_can_go_but_not_come(pair: list[OvsHost]) -> None:
    h1, _ = pair
    h1.create("other", "192.168.7.0/24")
    h1.open("o", "other", "192.168.7.9")
    h1.vswitch.kill("ovs-vswitchd")
    begin = time.monotonic()
    with pytest.raises(Exception, match="ovs-vswitchd"):
        h1.create("late", "192.168.8.0/24")
    h1.net.close(h1.boxes["o"].sandbox)
    h1.net.remove("other")
    assert time.monotonic() - begin < 30
    h1.vswitch.start_switch()
    assert reaches(h1.ns("a"), "192.168.1.12", seconds=60)
    assert sorted(h1.vswitch.vsctl("list-br").split()) == sorted(["nku0", br(h1)])
    # A tap device that a killed ovs-vswitchd had made does not go by itself.
    assert re.findall(r"\bnko\w+", run("ip", "-br", "link", at=h1.home)) == [br(h1)]


def test_who_looks_after_flows_waits_for_a_switch_without_its_database(
    pair: list[OvsHost],
) -> None:
    """The guard looks for that less and less often; meanwhile OpenFlow gets no answer."""
    h1, _ = pair
    assert h1.kernel.vswitchd.serves
    h1.vswitch.kill("ovsdb-server")
    time.sleep(7.5)
    h1.vswitch.start_database()
    with pytest.raises(KernelError, match="has not found its database again"):
        OvsRepairs(h1.net, h1.kernel, h1.database).repair()
    record = h1.open("late", "mesh", "192.168.1.13")  # waits, and is not refused
    assert h1.kernel.vswitchd.serves
    assert reaches(h1.ns("late"), "192.168.1.12", seconds=60)
    h1.net.close(record.sandbox)


def test_a_namespace_that_ended_without_a_word_keeps_nothing_from_healing(
    pair: list[OvsHost],
) -> None:
    """As of another engine's container that was killed, before its removal is requested."""
    h1, _ = pair
    record = h1.open("gone", "mesh", "192.168.1.14")
    netns.remove(h1.ns("gone"))
    no_flows(h1)
    h1.net.repair_drivers(in_openvswitch)
    assert not h1.net.repair_drivers(in_openvswitch)[0]
    assert reaches(h1.ns("a"), "192.168.1.12", seconds=60)
    assert not h1.net.check_links().failures
    h1.net.close(record.sandbox)


def test_a_daemon_that_has_lost_its_memory_sweeps_what_is_its_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with hosts(1, tmp_path_factory.mktemp("sweep")) as (h,):
        h.create("mesh", "192.168.1.0/24", peers="10.9.0.9")
        h.open("a", "mesh")
        theirs = ("add-br", "theirs", "--", "set", "bridge", "theirs", "datapath_type=netdev")
        h.vswitch.vsctl(*theirs)
        h.vswitch.ofctl("add-flow", "theirs", "cookie=0x4e00000000000001,ip,actions=drop")
        drivers = {"bridge": Bridge(), "host": HostDriver(), "null": Null(), "ovs": Ovs("netdev")}
        forgetful = Controller(
            Database(tmp_path_factory.mktemp("empty") / "db"), h.worker, drivers, Iptables(),
            engine="0",
        )  # fmt: skip
        forgetful.start()
        assert h.vswitch.vsctl("list-br").split() == ["theirs"]
        assert "0x4e00000000000001" in h.vswitch.ofctl("dump-flows", "theirs")
        assert "nk" not in run("ip", "-br", "link", at=h.home)
