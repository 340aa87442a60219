"""What netkit.reconcile.converge.Kernel promises of Open vSwitch: on a fake and on a real one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from netkit.errors import Conflict, KernelError
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.lab.openvswitch import OpenVSwitch
from netkit.model import HOST, Addr, Link, Netns, Peer, Resource, State, changed, state
from netkit.model.openvswitch import Offload, OvsBridge, OvsFlows, OvsPort, PortOffload, TunnelRoute
from netkit.reconcile.converge import Change, Kernel, converge, ownership
from netkit.reconcile.plan import Op, Plan
from netkit.testing.kernel import NETNS, FakeKernel

NET = "netkit:0:aaaaaaaaaaaa"
OTHER = "netkit:9:bbbbbbbbbbbb"
BRIDGE = OvsBridge(name="nko0", datapath="netdev", mac="02:aa:00:00:00:01", mtu=1400, owner=NET)


@dataclass
class World:
    kernel: Kernel
    folder: str
    vswitch: OpenVSwitch | None

    def make(self, *resources: Resource) -> Plan:
        return self.change(Change.of(state(resources)))

    def drop(self, *resources: Resource) -> Plan:
        return self.change(Change.of({}, state(resources)))

    def change(self, change: Change) -> Plan:
        return converge(change, self.kernel, ownership("0", self.folder))

    def seen(self, *resources: Resource) -> State:
        return self.kernel.observe([r.key for r in resources])

    def container(self) -> list[Resource]:
        ns, owner = f"{self.folder}/c1", f"{NET}:000000000001"
        near = Link(name="v1", kind="veth", peer=Peer(ns=ns, name="eth0"), owner=owner)
        return [
            Netns(path=ns, owner=owner),
            near,
            Offload(dev="v1", checksums=False, owner=owner),
            OvsPort(name="v1", bridge="nko0", owner=owner),
            PortOffload(dev="eth0", ns=ns, via="v1", port="v1", owner=owner),
            flows("one", "in_port=v1,ip,nw_src=10.7.0.2,actions=NORMAL"),
        ]


def flows(name: str, *lines: str) -> OvsFlows:
    return OvsFlows(bridge="nko0", name=name, flows=lines, owner=NET)


def tunnel(**change: object) -> OvsPort:
    options = (("key", "7"), ("remote_ip", "192.0.2.9"))
    port = OvsPort(
        name="g9", bridge="nko0", kind="gre", options=options, protected=True, bfd=True, owner=NET
    )
    return replace(port, **change)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.root)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield World(FakeKernel(), NETNS, None)
        return
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("ovs-vswitchd") is None:
        pytest.skip("needs openvswitch-switch")
    name = f"nk-{secrets.token_hex(3)}"
    home, folder = f"/run/netns/{name}", f"/run/{name}"
    vswitch = OpenVSwitch(home, Path(tempfile.mkdtemp(prefix="nk.", dir="/tmp")))
    netns.create(home)
    database = Ovsdb(vswitch.remote)
    try:
        vswitch.start()
        yield World(Host(home, namespaces=folder, variant="nft", ovs=database), folder, vswitch)
    finally:
        database.close()
        vswitch.remove()
        for path in (*netns.inside_folder(folder), home):
            netns.remove(path)
        shutil.rmtree(folder, ignore_errors=True)


def everything(world: World) -> list[Resource]:
    return [
        BRIDGE,
        tunnel(),
        Addr(dev="nko0", address=ip_interface("10.7.0.1/24"), owner=NET, depends_on=(BRIDGE.key,)),
        flows("all", "priority=1,in_port=g9,actions=NORMAL", "in_port=LOCAL,actions=NORMAL"),
        *world.container(),
    ]


def test_what_was_made_is_observed_as_desired(world):
    desired = everything(world)
    world.make(*desired)
    seen = world.seen(*desired)
    assert {r.key: changed(r, seen[r.key]) for r in desired} == {
        r.key: frozenset() for r in desired
    }


def test_making_it_again_does_nothing(world):
    desired = everything(world)
    assert len(world.make(*desired)) == len(desired)
    assert world.make(*desired) == ()


def test_what_is_not_there_is_not_seen(world):
    assert world.seen(*everything(world)) == {}


def test_what_is_dropped_is_deleted_and_the_rest_stays(world):
    world.make(*everything(world))
    deleted = world.container()
    world.drop(*deleted)
    assert world.seen(*deleted) == {}
    rest = [r for r in everything(world) if r.key not in {g.key for g in deleted}]
    assert set(world.seen(*rest)) == {r.key for r in rest}
    assert world.drop(*deleted) == ()


def test_a_bridge_goes_with_all_that_is_in_it(world):
    world.make(*everything(world))
    world.drop(*everything(world))
    assert world.seen(*everything(world)) == {}


def test_what_is_ours_is_found_by_its_mark(world):
    world.make(*everything(world))
    found = set(world.kernel.owned("netkit:0:"))
    desired = {r.key for r in everything(world) if isinstance(r, OvsBridge | OvsPort | OvsFlows)}
    assert desired <= found
    assert not any(k[0].startswith("ovs") for k in world.kernel.owned("netkit:9:"))


@pytest.mark.parametrize(
    "change",
    [
        {"options": (("key", "8"), ("remote_ip", "192.0.2.9"))},
        {"protected": False},
        {"bfd": False},
        {"tag": 12},
    ],
)
def test_a_port_is_changed_in_place(world, change):
    world.make(BRIDGE, tunnel())
    plan = world.make(BRIDGE, tunnel(**change))
    assert [str(op) for op in plan] == ["~ port g9 of Open vSwitch bridge nko0"]
    assert world.make(BRIDGE, tunnel(**change)) == ()


def test_a_port_is_added_again_for_another_link_of_its_name(world):
    desired = everything(world)
    world.make(*desired)
    link, port = (next(r for r in desired if isinstance(r, t) and r.name == "v1")
                  for t in (Link, OvsPort))  # fmt: skip
    for new in (False, True):  # the link was deleted and made anew
        there = world.seen(link)[link.key]
        world.kernel.apply([Op(there, None), *([Op(None, link)] if new else [])])
        assert changed(port, world.seen(port)[port.key]) == {"attached"}
        plan = [str(op) for op in world.make(*desired)]
        step = "{} port v1 of Open vSwitch bridge nko0".format
        removed, added = (plan.index(step(sign)) for sign in "-+")
        assert removed < added
        assert world.make(*desired) == ()
        if world.vswitch is not None:
            assert "PROMISC" in _flags(world.kernel.home, "v1")  # ovs-vswitchd has it open


@pytest.mark.parametrize("change", ["del nko0", "set nko0 name foo", "set nko0 netns {ns}"])
def test_the_local_port_of_a_bridge_comes_back_and_ports_and_flows_stay(world, change):
    wanted = everything(world)
    world.make(*wanted)
    if world.vswitch is None:
        world.kernel._forget_link(HOST, "nko0")
    else:
        _ip(world.kernel.home, "link", *change.format(ns=f"{world.folder}/c1").split())
    assert changed(BRIDGE, world.seen(BRIDGE)[BRIDGE.key]) == {"up"}
    plan = [op.subject.key for op in world.make(*wanted)]
    assert plan == [BRIDGE.key, wanted[2].key]
    assert world.make(*wanted) == ()
    if world.vswitch is not None:
        assert "PROMISC" in _flags(world.kernel.home, "nko0")  # ovs-vswitchd has it open
        assert "foo" not in _ip(world.kernel.home, "link", "show")
        assert "nko0" not in _ip(f"{world.folder}/c1", "link", "show")


def _flags(home: str, link: str) -> str:
    return _ip(home, "link", "show", link)


def _ip(home: str, *words: str) -> str:
    argv = ["nsenter", f"--net={home}", "ip", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_flows_are_changed_in_one_step_and_foreign_flows_stay(world):
    other = flows("other", "ip,nw_dst=10.7.0.9,actions=NORMAL")
    world.make(BRIDGE, flows("one", "ip,nw_dst=10.7.0.2,actions=drop"), other)
    new = flows("one", "ip,nw_dst=10.7.0.3,actions=drop", "arp,actions=NORMAL")
    assert len(world.make(BRIDGE, new, other)) == 1
    assert world.make(BRIDGE, new, other) == ()


def test_flows_are_added_again_after_their_port_was_replaced(world):
    desired = [BRIDGE, tunnel(), flows("t", "in_port=g9,actions=NORMAL")]
    world.make(*desired)
    world.drop(tunnel())
    world.make(BRIDGE, tunnel(name="g8", options=(("remote_ip", "192.0.2.8"),)))
    plan = {str(op) for op in world.make(*desired)}
    assert "+ port g9 of Open vSwitch bridge nko0" in plan
    assert world.make(*desired) == ()
    assert world.seen(desired[2])[desired[2].key].ports == {"g9"}


def test_a_bridge_that_is_not_ours_is_a_conflict(world):
    theirs = replace(BRIDGE, owner=OTHER)
    world.kernel.apply([Op(None, theirs)])
    with pytest.raises(Conflict, match="nko0"):
        world.make(BRIDGE)
    assert world.seen(BRIDGE)[BRIDGE.key].owner == OTHER


def test_a_port_without_its_interface_is_refused_and_nothing_is_left(world):
    bad = OvsPort(name="nolink", bridge="nko0", owner=NET)
    world.make(BRIDGE)
    with pytest.raises(KernelError, match="nolink"):
        world.kernel.apply([Op(None, bad)])
    assert world.seen(bad) == {}


def test_a_malformed_flow_is_refused_with_the_reason(world):
    if world.vswitch is None:
        pytest.skip("the fake reads no flows")
    world.make(BRIDGE)
    with pytest.raises(KernelError, match="nonsense"):
        world.make(BRIDGE, flows("bad", "nonsense=1,actions=NORMAL"))


ENCODED = (
    "priority=300,in_port=g9,dl_src=02:42:0a:07:00:02,ip,nw_src=10.7.0.2,actions=resubmit(,1)",
    "priority=300,in_port=g9,dl_src=02:42:0a:07:00:02,arp,arp_sha=02:42:0a:07:00:02,"
    "arp_spa=10.7.0.2,actions=resubmit(,1)",
    "priority=299,in_port=g9,actions=drop",
    "priority=200,dl_src=02:42:0a:07:00:02,actions=drop",
    "priority=200,arp,arp_spa=10.7.0.2,actions=drop",
    "table=0,priority=100,in_port=LOCAL,actions=NORMAL",
    "table=1,priority=10,dl_dst=02:42:0a:07:00:01,actions=LOCAL",
    "table=1,priority=0,actions=NORMAL",
    "table=1,priority=20,reg0=0,dl_dst=02:42:0a:07:00:03,actions=output:g9",
    "table=1,priority=60000,tcp,nw_src=10.8.0.0/16,nw_dst=10.7.0.2,tp_dst=0x50/0xfff0,"
    "dl_dst=02:42:0a:07:00:02,actions=NORMAL",
    "table=1,priority=59999,udp,nw_dst=10.7.0.2,tp_dst=0x35/0xffff,actions=drop",
    "table=1,priority=59998,sctp,nw_src=10.8.0.9/32,nw_dst=10.7.0.2,actions=drop",
    "table=1,priority=59997,icmp,nw_dst=10.7.0.2,actions=IN_PORT",
    "table=1,priority=59996,arp,arp_op=1,arp_tpa=10.7.0.9,actions=drop",
    "ip,actions=NORMAL",
)


def test_flows_are_encoded_as_ovs_ofctl_does(world):
    if world.vswitch is None:
        pytest.skip("about the real one")
    world.make(BRIDGE, tunnel())
    world.make(flows("one", *ENCODED))

    def dumped() -> list[str]:
        text = world.vswitch.ofctl("-O", "OpenFlow14", "--no-stats", "--sort", "dump-flows", "nko0")
        lines = [line for line in text.splitlines() if "actions=" in line]
        return sorted(re.sub(r"cookie=\w+, ?", "", line).strip() for line in lines)

    ours = dumped()
    world.vswitch.ofctl("del-flows", "nko0")
    for flow in ENCODED:
        world.vswitch.ofctl("add-flow", "nko0", flow)
    assert len(ours) == len(ENCODED)
    assert ours == dumped()


def test_flows_of_an_endpoint_are_changed_without_a_process(world, monkeypatch):
    if world.vswitch is None:
        pytest.skip("about the real one")
    world.make(BRIDGE, tunnel())

    def refused(*argv: object, **_: object) -> None:
        raise AssertionError(f"started {argv}")

    monkeypatch.setattr(subprocess, "Popen", refused)
    world.make(flows("one", *ENCODED))
    world.make(flows("one", *ENCODED[:3]))
    world.drop(flows("one"))


def test_what_has_no_encoding_here_is_left_to_ovs_ofctl(world):
    if world.vswitch is None:
        pytest.skip("about the real one")
    world.make(BRIDGE)
    learnt = flows("one", "priority=7,actions=load:1->NXM_NX_REG0[],resubmit(,1)", ENCODED[6])
    world.make(learnt)
    assert world.make(learnt) == ()


def test_the_end_of_userspace_tunnels_is_no_address_of_the_host(world):
    leg = OvsBridge(
        name="nku0",
        datapath="netdev",
        secure=False,
        mac="02:aa:00:00:00:02",
        tunnel_address=ip_interface("169.254.7.2/30"),
        owner=NET,
    )
    route = TunnelRoute(
        dst=ip_network("192.0.2.9/32"), bridge="nku0", gateway=ip_address("169.254.7.1")
    )
    assert len(world.make(leg, route)) == 2
    assert world.make(leg, route) == ()
    if world.vswitch is None:
        return
    assert "192.0.2.9/32" in world.vswitch.appctl("ovs/route/show")
    assert "gre_sys" not in world.vswitch.appctl("tnl/ports/show")  # until there is a tunnel


def test_foreign_flows_and_ports_stay(world):
    if world.vswitch is None:
        pytest.skip("about the real one")
    world.make(BRIDGE, flows("one", "ip,actions=NORMAL"))
    world.vswitch.ofctl("add-flow", "nko0", "cookie=0x7,priority=9,arp,actions=drop")
    world.vswitch.vsctl("add-port", "nko0", "theirs", "--", "set", "interface", "theirs",
                        "type=internal")  # fmt: skip
    world.make(BRIDGE, flows("one", "ip,actions=drop"))
    world.drop(flows("one"))
    assert "cookie=0x7" in world.vswitch.ofctl("dump-flows", "nko0")
    assert "theirs" in world.vswitch.vsctl("list-ports", "nko0")


def test_no_answer_from_the_database_is_reported(world, tmp_path):
    if world.vswitch is None:
        pytest.skip("about the real one")
    nowhere = Ovsdb(f"unix:{tmp_path}/db.sock")
    try:
        with pytest.raises(KernelError, match="--ovs-db"):
            nowhere.view(lambda idl: idl)
    finally:
        nowhere.close()


def test_the_connection_comes_back_with_the_database(world):
    if world.vswitch is None:
        pytest.skip("about the real one")
    world.make(BRIDGE)
    world.vswitch.kill("ovsdb-server")
    world.vswitch.start_database()
    world.make(BRIDGE, tunnel())
    assert tunnel().key in world.seen(tunnel())
