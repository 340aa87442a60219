"""A NIC is handed to a bridge and back, whatever happens in between."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.errors import Conflict, KernelError
from netkit.kernel.uplink.handover import Desk
from netkit.model import state
from netkit.model.uplink import EnslavedNic
from netkit.reconcile.converge import Change, converge, ownership
from plugins.lan import Lan
from tests.netns.lanbox import HOST, OTHER, ROUTER, LanBox, container, lan0, lan_box

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LanBox]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with lan_box(tmp_path / "handovers") as box:
        yield box


def furnish(box: LanBox) -> None:
    """Configure all that an administrator may have on a NIC."""
    for line in (
        "ip addr add 10.211.55.4/24 brd + dev eth0",  # secondary
        "ip addr add 192.168.7.2/24 dev eth0 label eth0:web",
        "ip addr add 10.8.0.1/32 scope host dev eth0",
        "ip addr add 10.9.0.1/24 dev eth0 valid_lft 5000 preferred_lft 4000",
        "ip addr add 10.10.0.1/24 dev eth0 noprefixroute",
        "ip addr add 10.12.0.1/24 dev eth0 metric 77",
        f"ip route add 172.20.0.0/16 via {ROUTER} metric 50 proto static src 10.211.55.4",
        f"ip route add 172.20.0.0/16 via {OTHER} metric 60 mtu 1400",
        "ip route add 172.21.0.0/16 dev eth0 scope link",
        f"ip route add 172.22.0.0/16 via {ROUTER} table 123",
        f"ip route add 172.23.0.0/16 nexthop via {ROUTER} weight 2 nexthop via {OTHER} weight 1",
        f"ip route add default via {OTHER} metric 900 proto dhcp",
        "ip route add 172.25.0.0/16 via 172.24.9.9 dev eth0 onlink",
        "ip link add tun9 type veth peer name tun8",
        "ip link set tun9 up",
        "ip link set tun8 up",
        "ip route add 172.26.0.0/16 dev tun9 src 10.211.55.4",  # of another link, by our address
    ):
        box.run(line)


def addressing(box: LanBox, dev: str) -> tuple[list[str], list[str]]:
    """Return the settings without lifetimes, which decrease."""
    addresses, routes = box.addressing(dev)
    return [a.partition(" valid_lft")[0].partition("NIC")[0] for a in addresses], routes


def test_the_bridge_gets_all_settings_of_the_nic_and_the_nic_gets_them_back(box: LanBox) -> None:
    furnish(box)
    before = addressing(box, "eth0")
    mac = json.loads(box.run("ip -j link show eth0"))[0]["address"]
    net = lan0()
    box.make(*Lan().network(net))
    assert addressing(box, "br-eth0")[1] == before[1]
    assert [a.replace("br-eth0", "eth0") for a in addressing(box, "br-eth0")[0]] == before[0]
    assert addressing(box, "eth0") == ([], [])
    assert "172.26.0.0/16 dev tun9" in box.run("ip route")
    assert f"link/ether {mac}" in box.run("ip link show br-eth0")
    assert box.pings(ROUTER)
    assert box.pings(HOST, at=box.at("other"))
    assert box.make(*Lan().network(net)) == ()
    box.drop(*Lan().network(net))
    assert addressing(box, "eth0") == before
    assert "br-eth0" not in box.run("ip link")
    left = re.search(r"valid_lft (\d+)sec", box.run("ip addr show dev eth0 to 10.9.0.1"))
    assert left
    assert 4900 < int(left[1]) <= 5000
    assert "172.26.0.0/16 dev tun9" in box.run("ip route")
    assert box.pings(ROUTER)
    assert not [*box.handovers.glob("*.json")]


def test_routes_of_a_bridge_that_was_down_come_back_by_a_step_and_never_by_a_look(
    box: LanBox,
) -> None:
    host, mine = box.host(), ownership("0", box.folder)
    desired = state(Lan().network(lan0()))
    (nic,) = (r for r in desired.values() if isinstance(r, EnslavedNic))

    def routed() -> bool:
        (seen,) = host.observe([nic.key]).values()
        return isinstance(seen, EnslavedNic) and seen.routed

    converge(Change.of(desired), host, mine)
    box.run(f"ip route add 172.21.0.0/16 via {ROUTER}")
    assert routed()
    before = addressing(box, "br-eth0")[1]
    for command in ("down", "up"):
        box.run(f"ip link set br-eth0 {command}")
        left = addressing(box, "br-eth0")[1]
        assert not routed()
        assert addressing(box, "br-eth0")[1] == left != before
    plan = converge(Change.of(desired), host, mine)
    assert [str(op) for op in plan] == ["~ port eth0 of bridge br-eth0"]
    assert addressing(box, "br-eth0")[1] == before
    box.run("ip link set br-eth0 down")
    assert len(converge(Change.of(desired), host, mine)) == 2  # the link first, then its routes
    assert addressing(box, "br-eth0")[1] == before
    box.run("ip route del 172.21.0.0/16")  # by the administrator: it stays deleted
    assert converge(Change.of(desired), host, mine) == ()
    assert routed()


def test_containers_and_their_neighbours_are_on_one_segment(box: LanBox) -> None:
    net = lan0()
    base = [*Lan().network(net)]
    one, two = container(box, net, 1), container(box, net, 2)
    box.make(*base, *one, *two)
    inside = f"{box.folder}/c1"
    for target in (ROUTER, OTHER, HOST, "10.211.55.130"):
        assert box.pings(target, at=inside), target
    assert box.pings("10.211.55.129", at=box.at("other"))
    box.drop(*base, *one, *two)
    assert "netkit" not in box.run("nft list ruleset")


def test_a_bridge_of_the_administrators_is_used_as_it_is(box: LanBox) -> None:
    for line in (
        "ip link add br0 type bridge",
        "ip link set br0 up",
        "ip addr flush dev eth0",
        "ip link set eth0 master br0",
        f"ip addr add {HOST}/24 dev br0",
        f"ip route add default via {ROUTER} dev br0",
    ):
        box.run(line)
    before = addressing(box, "br0"), box.run("ip -d -o link show br0").split("gc_timer")[0]
    net = lan0(bridge="br0")
    base, one = [*Lan().network(net)], container(box, net, 1)
    box.make(*base, *one)
    assert box.pings(ROUTER, at=f"{box.folder}/c1")
    box.drop(*base, *one)
    after = addressing(box, "br0"), box.run("ip -d -o link show br0").split("gc_timer")[0]
    assert after[0] == before[0]
    assert "master br0" in box.run("ip link show eth0")
    with pytest.raises(Conflict, match="br1"):
        box.make(*Lan().network(lan0(bridge="br1")))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ip link del eth0"], "there is no interface eth0"),
        (["ip link add br0 type bridge", "ip link set eth0 master br0"], "eth0 of bridge br0"),
        (["ip link add br-eth0 type bridge"], "br-eth0"),
    ],
)
def test_an_unusable_nic_is_refused_and_nothing_is_changed(
    box: LanBox, lines: list[str], message: str
) -> None:
    for line in lines:
        box.run(line)
    before = box.run("ip -o addr"), box.run("ip route show table all")
    with pytest.raises((KernelError, Conflict), match=message):
        box.make(*Lan().network(lan0()))
    assert (box.run("ip -o addr"), box.run("ip route show table all")) == before


def deafen(box: LanBox) -> None:
    """As a switch that lets one host through: no answer reaches what is bridged.

    Until the move is given up, which takes some seconds.
    """
    box.run("nft add table bridge deaf")
    box.run("nft add chain bridge deaf in { type filter hook prerouting priority -400 ; }")
    box.run("nft add rule bridge deaf in ether type arp drop")


def test_a_move_after_which_the_router_does_not_answer_is_undone(box: LanBox) -> None:
    deafen(box)
    before = addressing(box, "eth0")
    with pytest.raises(KernelError, match=rf"{ROUTER} answered on eth0 and does not on br-eth0"):
        box.make(*Lan().network(lan0()))
    assert addressing(box, "eth0") == before
    assert "br-eth0" not in box.run("ip link")
    assert box.pings(ROUTER)


MOVER = """
import sys
from pathlib import Path
from tests.netns.lanbox import LanBox, lan0
from plugins.lan import Lan
box = LanBox(sys.argv[1], Path(sys.argv[2]))
host = box.host()
host._uplinks._patience = float(sys.argv[3])
box.host = lambda: host
resources = [*Lan().network(lan0())]
print("ready", flush=True)
sys.stdin.readline()
(box.make if sys.argv[4] == "make" else box.drop)(*resources)
print("done", flush=True)
"""


def mover(box: LanBox, what: str, patience: float = 10) -> subprocess.Popen[bytes]:
    """A netkit process of its own that makes or drops the network on command."""
    argv = [sys.executable, "-c", MOVER, box.name, str(box.handovers), str(patience), what]
    path = str(Path(__file__).parents[2])
    child = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def go(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        pipe.close()


@pytest.mark.parametrize("what", ["make", "drop"])
@pytest.mark.parametrize("moment", ["before", "armed", "moving", "after", "any", "any time"])
def test_a_netkit_that_is_killed_leaves_the_host_all_there_or_all_back(
    box: LanBox, what: str, moment: str
) -> None:
    furnish(box)
    before = addressing(box, "eth0")
    base = [*Lan().network(lan0())]
    if what == "drop":
        box.make(*base)
    unconfirmed = what == "make" and moment in {"armed", "moving"}
    if unconfirmed:
        deafen(box)
    child = mover(box, what)
    try:
        go(child)
        await_moment(box, child, moment, what)
    finally:
        end(child)
    deadline = time.monotonic() + 60
    while [*box.handovers.glob("*.json")] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [*box.handovers.glob("*.json")]
    on_nic = addressing(box, "eth0") == before
    if not on_nic:
        assert addressing(box, "eth0") == ([], [])
        assert addressing(box, "br-eth0")[1] == before[1]
    if moment in {"before", "after"}:
        assert on_nic == ((what == "make") == (moment == "before"))
    if unconfirmed:
        assert on_nic
        box.run("nft delete table bridge deaf")
    assert box.pings(ROUTER)
    box.drop(*base)
    assert addressing(box, "eth0") == before


def await_moment(box: LanBox, child: subprocess.Popen[bytes], moment: str, what: str) -> None:
    until = time.monotonic() + 60
    if moment.startswith("any"):
        time.sleep(random.uniform(0.1, 0.6))
    if moment == "after":
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
    while moment in {"armed", "moving"} and not [*box.handovers.glob("*.json")]:
        if child.poll() is not None:
            return  # giving back probes no host, and is over soon
        assert time.monotonic() < until
    while moment == "moving" and ("master" in box.run("ip link show eth0")) == (what == "drop"):
        assert time.monotonic() < until


def test_a_netkit_that_hangs_is_undone_when_the_time_is_over(box: LanBox) -> None:
    before = addressing(box, "eth0")
    deafen(box)
    child = mover(box, "make", patience=3)
    try:
        go(child)
        await_moment(box, child, "moving", "make")
        child.send_signal(signal.SIGSTOP)
        assert [*box.handovers.glob("*.json")]
        time.sleep(3.5)
        assert addressing(box, "eth0") == before
        assert box.pings(ROUTER)
        child.send_signal(signal.SIGCONT)
        assert child.wait(10) != 0, "its move was undone, which it reports as an error"
        assert addressing(box, "eth0") == before
        assert "br-eth0" not in box.run("ip link")
    finally:
        child.send_signal(signal.SIGCONT)
        end(child)


def test_ipv6_of_the_host_moves_along(box: LanBox) -> None:
    for line in (
        "ip -6 addr add 2001:db8::3/64 dev eth0 nodad",
        "ip -6 route add default via 2001:db8::1 dev eth0 metric 55",
        "ip -6 route add 2001:db8:7::/48 dev eth0 metric 66",
    ):
        box.run(line)

    def shown(dev: str) -> tuple[list[str], list[str]]:
        addresses = box.run(f"ip -6 -o addr show dev {dev} scope global").splitlines()
        routes = box.run(f"ip -6 route show dev {dev}").splitlines()
        return [a.split()[3] for a in addresses], [r.strip() for r in routes if "fe80" not in r]

    before = shown("eth0")
    assert before[0] == ["2001:db8::3/64"]
    box.make(*Lan().network(lan0()))
    assert shown("br-eth0") == before
    box.drop(*Lan().network(lan0()))
    assert shown("eth0") == before


def test_what_a_killed_watchdog_left_is_undone_by_the_next_netkit(box: LanBox) -> None:
    furnish(box)
    before = addressing(box, "eth0")
    base = [*Lan().network(lan0())]
    box.make(*base)
    # As a kill of both between the move and its confirmation leaves it: moved, and a journal.
    journal(box)
    host = box.host()
    host.observe([("uplink", "", "eth0")])
    assert addressing(box, "eth0") == before
    assert addressing(box, "br-eth0") == ([], [])
    box.drop(*base)


def journal(box: LanBox) -> None:
    from netkit.kernel import netns
    from netkit.kernel.netlink.codec import Netlink
    from netkit.kernel.uplink.addresses_routes import read
    from netkit.kernel.uplink.handover import Journal, look, space

    with netns.inside(box.home), Netlink() as netlink:
        bridge = look(netlink, "br-eth0")
        assert bridge is not None
        had = read(netlink, (bridge.index, bridge.name))
        Desk(box.handovers).write(
            Journal(token="t", dev="eth0", bridge="br-eth0", space=space(), belongings=had)
        )
