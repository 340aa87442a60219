"""The use cases, on a kernel made of a dict: whole or not at all, and the same after a restart."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from netkit.driver import NoFirewall
from netkit.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InUse,
    InvalidSpec,
    KernelError,
    NetkitError,
    NotFound,
    NotSupported,
)
from netkit.model import Addr, Chain, Key, Link, Netns, Resource, Rule, State, Sysctl
from netkit.network.config import NetworkConfig
from netkit.network.controller import Controller
from netkit.portallocator import PortAllocator
from netkit.reconcile.converge import Change
from netkit.reconcile.plan import Op, Plan
from netkit.spec import (
    EndpointRecord,
    EndpointSpec,
    LinkedPorts,
    NetworkRecord,
    NetworkSpec,
    PortSpec,
    Sandbox,
    SubnetSpec,
)
from netkit.store import Database
from netkit.testing.kernel import NETNS, FakeKernel, Inline
from plugins.bridge import Bridge
from plugins.firewall.iptables import Iptables
from plugins.host import Host
from plugins.none import Null
from tests.unit.parallel import RUN

DRIVERS = {"bridge": Bridge(), "host": Host(), "null": Null()}
IP = f"127.56.{RUN + 1}.1"
BR = "com.docker.network.bridge."


@dataclass
class RecordedNames:
    """Records the names that are published to DNS."""

    now: dict[str, EndpointRecord] = field(default_factory=dict)
    refreshed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # ids of endpoints

    def refresh(self, network: str) -> None:
        self.refreshed.append(network)

    def publish(self, joined: Sequence[EndpointRecord], left: Sequence[EndpointRecord]) -> None:
        for r in left:
            self.left.append(r.id)
            self.now.pop(r.id, None)
        for r in joined:
            self.now[r.id] = r


class Bench:
    """One host with its netkit, which may be killed and started again."""

    def __init__(self, path: Path, settings: NetworkConfig) -> None:
        self.path = path
        self.settings = settings
        self.kernel = FakeKernel()
        self.inline = Inline(self.kernel, "e1")
        self.names_seen = RecordedNames()
        self.ports = PortAllocator(lambda: range(21400, 21500), frozenset)
        self.database = Database(path)
        self.now = 0
        self.net = self.made()

    def made(self) -> Controller:
        return Controller(
            self.database,
            self.inline,
            DRIVERS,
            Iptables(),
            engine="e1",
            settings=self.settings,
            names=self.names_seen,
            ports=self.ports,
            now_ns=self.tick,
        )

    def tick(self) -> int:
        self.now += 1
        return self.now

    def killed(self, **settings: object) -> None:
        """The daemon was killed, with its sockets and its memory."""
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        for holder in list(self.ports._by_holder):
            self.ports.release(holder)
        self.names_seen = RecordedNames()
        self.database.close()
        self.database = Database(self.path)
        self.net = self.made()

    def things(self) -> dict[Key, Resource]:
        """Return what netkit could leak."""
        return {k: r for k, r in self.kernel.things.items() if not isinstance(r, Sysctl)}

    def held(self) -> int:
        rows = self.database.rows("SELECT count(*) AS n FROM addresses WHERE kind='lease'")
        return int(rows[0]["n"])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    b = Bench(tmp_path / "db", NetworkConfig(ip=IP))
    b.net.start()
    yield b
    for holder in list(b.ports._by_holder):
        b.ports.release(holder)
    b.database.close()


def box(name: str = "web") -> Sandbox:
    return Sandbox(id=name.encode().hex().ljust(64, "0"), name=name, ns=f"{NETNS}/{name}")


def on(network: NetworkRecord, **more: object) -> EndpointSpec:
    return EndpointSpec(network=network.id, **more)  # type: ignore[arg-type]


def tcp(inside: int, host: int = 0, ip: str = "") -> PortSpec:
    return PortSpec(proto="tcp", container_port=inside, host_ip=ip, host_first=host, host_last=host)


def sub(cidr: str, **more: object) -> tuple[SubnetSpec, ...]:
    return (SubnetSpec(subnet=cidr, **more),)  # type: ignore[arg-type]


# networks


def test_the_built_in_networks_are_there_after_the_start(bench: Bench) -> None:
    assert [n.spec.name for n in bench.net.all()] == ["bridge", "host", "none"]
    bridge = bench.net.find("bridge")
    assert bridge.builtin
    assert bridge.spec.subnets[0] == SubnetSpec(subnet="172.17.0.0/16", gateway="172.17.0.1")
    assert ("link", "", "docker0") in bench.kernel.things
    assert bench.kernel.things["sysctl", "", "net/ipv4/ip_forward"] == Sysctl(
        name="net/ipv4/ip_forward", value="1"
    )


def test_a_network_comes_and_goes_without_a_trace(bench: Bench) -> None:
    before = bench.things()
    net, warnings = bench.net.create(NetworkSpec(name="back", labels={"a": "b"}))
    assert warnings == []
    assert net.spec.subnets[0] == SubnetSpec(subnet="172.18.0.0/16", gateway="172.18.0.1")
    assert (net.spec.labels, net.chosen) == ({"a": "b"}, True)
    assert ("link", "", f"br-{net.id[:12]}") in bench.kernel.things
    assert bench.net.remove("back") == net
    assert bench.things() == before
    with pytest.raises(NotFound, match="network back not found"):
        bench.net.find("back")
    again, _ = bench.net.create(NetworkSpec(name="back"))
    assert again.spec.subnets == net.spec.subnets


def test_a_network_is_found_by_id_name_and_beginning_in_this_order(bench: Bench) -> None:
    one, _ = bench.net.create(NetworkSpec(name="one"))
    two, _ = bench.net.create(NetworkSpec(name=one.id[:12]))
    assert bench.net.find(one.id) == one
    assert bench.net.find(one.id[:12]) == two
    assert bench.net.find(one.id[:20]) == one
    with pytest.raises(NotFound):
        bench.net.find("")
    for i in range(14):  # with three more: at least two ids begin alike
        bench.net.create(NetworkSpec(name=f"n{i}"))
    ids = [n.id for n in bench.net.all()]
    first = next(c for c in "0123456789abcdef" if sum(id.startswith(c) for id in ids) > 1)
    with pytest.raises(InvalidSpec, match=f"network {first} is ambiguous \\(. matches found"):
        bench.net.find(first)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        (NetworkSpec(name="none"), Forbidden, "not permitted on predefined none network"),
        (NetworkSpec(name="default"), Forbidden, "not permitted on predefined default"),
        (NetworkSpec(name=""), InvalidSpec, "name is empty"),
        (NetworkSpec(name="a/b"), InvalidSpec, '"a/b" includes invalid characters'),
        (NetworkSpec(name="-a"), InvalidSpec, "includes invalid characters"),
        (NetworkSpec(name="x", driver="ovz"), NotFound, "could not find plugin ovz in v1 plugin"),
        (NetworkSpec(name="x", driver="host"), Forbidden, 'only one instance of "host" network'),
        (NetworkSpec(name="x", driver="null"), Forbidden, 'only one instance of "null" network'),
        (NetworkSpec(name="x", enable_ipv6=True), NotSupported, "IPv6 is not supported yet"),
        (NetworkSpec(name="x", enable_ipv4=False), NotSupported, "networks without IPv4"),
        (NetworkSpec(name="x", scope="swarm"), NotSupported, "scope swarm"),
        (NetworkSpec(name="x", ipam_driver="dhcp"), NotFound, "could not find plugin dhcp"),
        (NetworkSpec(name="x", ipam_options={"a": "b"}), InvalidSpec, "unknown option 'a'"),
        (
            NetworkSpec(name="x", options={f"{BR}nam": "br7"}),
            InvalidSpec,
            f"unknown option '{BR}nam' for the bridge driver: did you mean {BR}name?",
        ),
        (
            NetworkSpec(name="x", subnets=(*sub("10.0.0.0/24"), *sub("10.1.0.0/24"))),
            InvalidSpec,
            "bridge driver doesn't support multiple subnets",
        ),
        (
            NetworkSpec(name="x", subnets=(SubnetSpec(gateway="10.0.0.1"),)),
            InvalidSpec,
            "must have a corresponding subnet",
        ),
        (
            NetworkSpec(name="x", subnets=sub("172.17.5.0/24")),
            Forbidden,
            "Pool overlaps .* 172.17.5.0/24 and 172.17.0.0/16 of network bridge",
        ),
        (
            NetworkSpec(name="x", options={f"{BR}name": "docker0"}),
            Forbidden,
            "interface docker0 belongs to network bridge",
        ),
        (
            NetworkSpec(name="x", options={f"{BR}gateway_mode_ipv4": "isolated"}),
            InvalidSpec,
            "only be used for an internal network",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    bench: Bench, spec: NetworkSpec, error: type[NetkitError], message: str
) -> None:
    things, rows = bench.things(), bench.database.rows("SELECT * FROM networks")
    with pytest.raises(error, match=message):
        bench.net.create(spec)
    assert bench.things() == things
    assert len(bench.database.rows("SELECT * FROM networks")) == len(rows)


def test_names_are_unique(bench: Bench) -> None:
    bench.net.create(NetworkSpec(name="x"))
    with pytest.raises(AlreadyExists, match="network with name x already exists"):
        bench.net.create(NetworkSpec(name="x"))


def test_subnet_range_gateway_and_reserved_addresses_are_honoured(bench: Bench) -> None:
    spec = sub("10.9.0.0/24", ip_range="10.9.0.64/26", aux={"router": "10.9.0.64"})
    net, _ = bench.net.create(NetworkSpec(name="x", subnets=spec))
    assert net.spec.subnets[0].gateway == "10.9.0.65"
    (record,) = bench.net.open(box(), [on(net)], [])
    assert record.address == "10.9.0.66/24"


def test_any_subnet_of_a_size(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x", subnets=sub("0.0.0.0/24")))
    assert net.spec.subnets[0].subnet == "172.18.0.0/24"


def test_pools_jump_over_what_the_host_uses(tmp_path: Path) -> None:
    database, kernel = Database(tmp_path / "db"), FakeKernel()
    net = Controller(
        database,
        Inline(kernel, "e1"),
        DRIVERS,
        NoFirewall(),
        engine="e1",
        occupied=lambda: [IPv4Network("172.17.0.0/17"), IPv4Network("172.18.0.53/32")],
    )
    net.start()
    assert net.find("bridge").spec.subnets[0].subnet == "172.19.0.0/16"
    assert not [r for r in kernel.things.values() if isinstance(r, Rule | Chain)]
    database.close()


def test_built_in_networks_stay(bench: Bench) -> None:
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden, match=f"{name} is a pre-defined network"):
            bench.net.remove(name)


def test_a_network_in_use_stays(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    (record,) = bench.net.open(box("web"), [on(net)], [])
    message = f'network x has active endpoints \\(name:"web" id:"{record.id[:12]}"\\)'
    with pytest.raises(Forbidden, match=message):
        bench.net.remove("x")
    bench.net.close(box("web").id)
    bench.net.remove("x")


@pytest.mark.parametrize("step", range(12))
def test_a_network_is_made_whole_or_not_at_all(bench: Bench, step: int) -> None:
    before, rows = bench.things(), len(bench.net.all())
    bench.kernel.fail_at = step
    with pytest.raises(KernelError, match="injected"):
        bench.net.create(NetworkSpec(name="x"))
    assert bench.things() == before
    assert len(bench.net.all()) == rows
    bench.net.create(NetworkSpec(name="x"))


def test_a_host_that_cannot_be_looked_at_leaves_no_half_made_network_behind(bench: Bench) -> None:
    """A switch that does not answer, for instance: its clean-up fails as well."""
    bridge, observe = bench.net.find("bridge"), bench.kernel.observe
    before = bench.things()

    def silent(keys: Iterable[Key]) -> State:
        raise KernelError("the switch does not answer")

    bench.kernel.observe = silent  # type: ignore[method-assign]
    with pytest.raises(KernelError, match="does not answer") as failed:
        bench.net.create(NetworkSpec(name="x", subnets=sub("10.9.0.0/24")))
    assert not getattr(failed.value, "__notes__", ())
    with pytest.raises(KernelError, match="does not answer"):
        bench.net.open(box(), [on(bridge)], [tcp(80)])
    bench.kernel.observe = observe  # type: ignore[method-assign]
    assert (bench.held(), bench.things()) == (0, before)
    bench.net.create(NetworkSpec(name="y", subnets=sub("10.9.0.0/24")))
    bench.net.open(box(), [on(bridge)], [tcp(80)])


def test_removal_that_fails_leaves_the_network_as_it_was(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    before = bench.things()
    bench.kernel.fail_at = 3
    with pytest.raises(KernelError):
        bench.net.remove("x")
    assert bench.things() == before
    bench.net.open(box(), [on(net)], [])


def test_a_bridge_of_the_administrator_is_used_and_survives(bench: Bench) -> None:
    theirs = Link(name="br0", kind="bridge", mtu=9000, mac="02:00:00:00:00:07", filtered=False,
                  snooping=True)  # fmt: skip
    bench.kernel.apply([Op(None, theirs)])
    spec = NetworkSpec(name="lan", subnets=sub("192.168.7.0/24"), options={f"{BR}name": "br0"})
    net, _ = bench.net.create(spec)
    bench.net.open(box(), [on(net)], [])
    bench.net.close(box().id)
    bench.net.remove("lan")
    assert bench.kernel.things[theirs.key] == theirs


def test_options_of_other_tools_are_kept_and_warned_of(bench: Bench) -> None:
    options = {"com.example.team": "blue", "foo": "", "com.docker.network.windowsshim.dns": "x"}
    record, warnings = bench.net.create(NetworkSpec(name="x", options=options))
    assert record.spec.options == options
    assert warnings == [
        f"option {key!r} has no effect: the bridge driver does not know it"
        for key in sorted(options)
    ]
    bench.killed()
    bench.net.start()
    assert bench.net.find("x").spec.options == options


def test_the_docker0_of_another_engine_is_not_shared(bench: Bench) -> None:
    bench.kernel._remove(bench.kernel.things["link", "", "docker0"])
    theirs = Link(name="docker0", kind="bridge", mtu=1500, mac="02:42:00:00:00:07", filtered=False,
                  snooping=True)  # fmt: skip
    bench.kernel.apply([Op(None, theirs)])
    bench.killed()
    with pytest.raises(Conflict, match=r"docker0 exists, and is not netkit's\. .*--bridge none"):
        bench.net.restore({})
    assert bench.kernel.things[theirs.key] == theirs


def test_a_foreign_thing_of_that_name_is_a_conflict_and_survives(bench: Bench) -> None:
    theirs = Link(name="br0", kind="dummy")
    bench.kernel.things[theirs.key] = theirs
    before = bench.things()
    with pytest.raises(Conflict, match="interface br0 is not a bridge but a dummy"):
        bench.net.create(NetworkSpec(name="lan", options={f"{BR}name": "br0"}))
    assert bench.things() == before


# sandboxes


def test_open_is_one_change_and_close_deletes_all_of_it(bench: Bench) -> None:
    before, bridge = bench.things(), bench.net.find("bridge")
    bench.inline.plans.clear()
    (r,) = bench.net.open(box(), [on(bridge)], [tcp(80, 21490)])
    (plan,) = bench.inline.plans
    kinds = [op.subject.key[0] for op in plan]
    assert kinds == ["rule", "netns", "sysctl", "link", "addr", "route"]
    assert (r.address, r.gateway, r.ifname, r.is_default) == (
        "172.17.0.2/16", "172.17.0.1", "eth0", True,
    )  # fmt: skip
    assert [(p.host_ip, p.host_port, p.container_port) for p in r.ports] == [(IP, 21490, 80)]
    assert bench.net.endpoints(sandbox=box().id) == bench.net.endpoints(network=bridge.id) == [r]
    assert bench.names_seen.now == {r.id: r}
    bench.net.close(box().id)
    assert bench.things() == before
    assert (bench.names_seen.now, bench.held(), bench.net.endpoints()) == ({}, 0, [])
    bench.ports.reserve("other", [tcp(80, 21490, IP)], "-")
    bench.net.close(box().id)  # nothing to do


def test_a_namespace_is_made_ahead_of_its_links(bench: Bench) -> None:
    before = bench.things()
    assert bench.net.prepare(box())
    made = {k for k in bench.things() if k not in before}
    assert {k[0] for k in made} == {"netns"}
    assert not bench.net.prepare(box())  # it is there
    bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    assert not bench.net.prepare(box())  # it is open
    bench.net.close(box().id)
    assert bench.things() == before
    assert bench.net.prepare(box())
    bench.net.close(box().id)  # never opened
    assert bench.things() == before


def test_no_namespace_is_made_ahead_for_a_container_in_the_hosts(bench: Bench) -> None:
    assert not bench.net.prepare(Sandbox(id="f" * 64, name="web", ns=""))


def test_a_namespace_made_ahead_goes_when_the_opening_fails_before_the_kernel(
    bench: Bench,
) -> None:
    before = bench.things()
    assert bench.net.prepare(box())
    with socket.socket() as busy:
        busy.bind((IP, 0))
        busy.listen()
        taken = tcp(80, busy.getsockname()[1], IP)
        with pytest.raises(NetkitError):
            bench.net.open(box(), [on(bench.net.find("bridge"))], [taken])
    assert bench.things() == before
    bench.net.open(box(), [on(bench.net.find("bridge"))], [])


def test_a_namespace_made_ahead_goes_when_the_kernel_cannot_be_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bench.things()
    assert bench.net.prepare(box())
    look = bench.kernel.observe
    failures = [KernelError("no memory"), KernelError("no memory")]  # it is tried twice

    def observe(keys: Iterable[Key]) -> State:
        if failures:
            raise failures.pop()
        return look(keys)

    monkeypatch.setattr(bench.kernel, "observe", observe)
    with pytest.raises(KernelError) as raised:
        bench.net.open(box(), [on(bench.net.find("bridge"))], [])
    assert raised.value.nothing_applied
    assert bench.things() == before


def test_of_a_namespace_made_ahead_nothing_is_left_by_a_killed_daemon(bench: Bench) -> None:
    before = bench.things()
    assert bench.net.prepare(box())
    bench.killed()
    bench.net.restore({})
    assert bench.things() == before


def test_opening_again_keeps_endpoints_and_repairs_what_is_broken(bench: Bench) -> None:
    wants, ports = [on(bench.net.find("bridge"))], [tcp(80)]
    first = bench.net.open(box(), wants, ports)
    before = dict(bench.kernel.things)
    assert bench.net.open(box(), wants, ports) == first
    for key in [("link", "", "docker0"), *[k for k in before if k[:3:2] == ("rule", "nat")]]:
        bench.kernel._remove(bench.kernel.things[key])
    assert bench.net.open(box(), wants, ports) == first
    assert bench.kernel.things == before


def changed_inside(bench: Bench) -> list[Resource]:
    """Add to the kernel what a container with CAP_NET_ADMIN might do in its namespace."""
    ns = box().ns
    found = [
        Addr(dev="eth0", address=IPv4Interface("203.0.113.9/24"), ns=ns),
        Link(name="tun0", kind="tun", ns=ns),
        Sysctl(name="net/ipv4/ip_forward", value="1", ns=ns),
    ]
    bench.kernel.things |= {r.key: r for r in found}
    return found


def test_what_a_run_did_to_its_namespace_is_undone_before_the_next(bench: Bench) -> None:
    wants, ports = [on(bench.net.find("bridge"))], [tcp(80)]
    first = bench.net.open(box(), wants, ports)
    before = dict(bench.kernel.things)
    changed_inside(bench)
    assert bench.net.open(box(), wants, ports) == first
    assert bench.kernel.things == before
    changed_inside(bench)
    bench.inline.plans.clear()
    bench.net.renew(box().id)
    assert bench.kernel.things == before
    assert {op.subject.key[0] for plan in bench.inline.plans for op in plan} == {
        "netns", "sysctl", "link", "addr", "route",
    }, "rules stay as they are"  # fmt: skip
    bench.inline.plans.clear()
    assert bench.net.open(box(), wants, ports) == first
    assert bench.inline.plans == [()], "nothing has run in that namespace yet"
    changed_inside(bench)
    assert bench.net.open(box(), wants, ports) == first
    assert bench.kernel.things == before


def test_a_namespace_shared_with_other_containers_is_kept(bench: Bench) -> None:
    wants = [on(bench.net.find("bridge"))]
    bench.net.open(box(), wants, [])
    mine = changed_inside(bench)
    (address,) = (k for k in bench.kernel.things if k[0] == "addr" and "172.17.0.2/16" in k)
    bench.kernel._remove(bench.kernel.things[address])
    bench.net.open(box(), wants, [], shared=True)
    assert [bench.kernel.things[r.key] for r in mine] == mine
    assert address in bench.kernel.things


def test_what_changed_between_two_runs_holds_for_the_next(bench: Bench) -> None:
    bridge, (back, _) = bench.net.find("bridge"), bench.net.create(NetworkSpec(name="back"))
    before = bench.things()
    bench.net.open(box(), [on(bridge)], [tcp(80)])
    bench.net.renew(box().id)
    (only,) = bench.net.open(box(), [on(back, names=("web",))], [])
    assert (only.network, only.ports) == (back.id, ())
    assert [r.network for r in bench.names_seen.now.values()] == [back.id]
    (other,) = bench.net.open(box(), [on(back, names=("www",))], [])
    assert other.spec.names == ("www",)
    bench.net.close(box().id)
    assert bench.things() == before


@pytest.mark.parametrize("step", range(8))
def test_a_renewal_that_fails_is_made_good_by_the_next_run(bench: Bench, step: int) -> None:
    wants, ports = [on(bench.net.find("bridge"))], [tcp(80)]
    bench.net.open(box(), wants, ports)
    before = dict(bench.kernel.things)
    changed_inside(bench)
    bench.kernel.fail_at = step
    with suppress(KernelError):
        bench.net.renew(box().id)
    bench.kernel.fail_at = None
    bench.net.open(box(), wants, ports)
    assert bench.kernel.things == before


def test_nothing_is_renewed_of_a_sandbox_that_was_closed_meanwhile(bench: Bench) -> None:
    wants = [on(bench.net.find("bridge"))]
    before = bench.things()
    bench.net.open(box(), wants, [])
    bench.net.close(box().id)
    bench.net.renew(box().id)
    assert bench.things() == before
    bench.net.open(box(), wants, [])


def test_a_bridge_that_another_tool_deleted_comes_back_with_the_next_start(bench: Bench) -> None:
    before = dict(bench.kernel.things)
    bench.kernel._remove(before["link", "", "docker0"])
    bench.net.open(box(), [on(bench.net.find("bridge"))], [])
    bench.net.close(box().id)
    assert bench.kernel.things == before


@pytest.mark.parametrize("step", range(11))
def test_a_sandbox_is_opened_whole_or_not_at_all(bench: Bench, step: int) -> None:
    bridge, (back, _) = bench.net.find("bridge"), bench.net.create(NetworkSpec(name="back"))
    before = bench.things()
    wants = [on(bridge), on(back)]
    original = bench.inline.converge
    failures = 0

    def failing(change: Change) -> Plan:
        nonlocal failures
        if change.desired:
            bench.kernel.fail_at = step
            failures += 1
        return original(change)

    bench.inline.converge = failing  # type: ignore[method-assign]
    bench.kernel.fail_at = None
    with pytest.raises(KernelError, match="injected"):
        bench.net.open(box(), wants, [tcp(80), tcp(90)])
    assert failures == 2  # by itself, and with its networks
    bench.inline.converge = original  # type: ignore[method-assign]
    bench.kernel.fail_at = None
    assert bench.things() == before
    assert (bench.held(), bench.net.endpoints(), bench.names_seen.now) == (0, [], {})
    assert bench.ports._by_holder.get(box().id) is None
    assert len(bench.net.open(box(), wants, [tcp(80), tcp(90)])) == 2


def test_an_address_in_use_is_reported_with_its_holder(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x", subnets=sub("10.9.0.0/24")))
    bench.net.open(box("one"), [on(net, ip="10.9.0.7")], [])
    with pytest.raises(InUse, match=r"10\.9\.0\.7 is held by container one"):
        bench.net.open(box("two"), [on(net, ip="10.9.0.7")], [])
    bench.net.reserve(box("three").id, [on(net, ip="10.9.0.8")])
    bench.net.named = {box("three").id: "three"}.get  # type: ignore[assignment]
    with pytest.raises(InUse, match=r"10\.9\.0\.8 is held by container three"):
        bench.net.reserve(box("two").id, [on(net, ip="10.9.0.8")])
    bench.net.named = lambda _: ""
    with pytest.raises(InUse, match=r"10\.9\.0\.8 is held by container 746872656500"):
        bench.net.reserve(box("two").id, [on(net, ip="10.9.0.8")])


def test_static_addresses_are_reserved_and_free_one_by_one(bench: Bench) -> None:
    one, _ = bench.net.create(NetworkSpec(name="x", subnets=sub("10.9.0.0/24")))
    two, _ = bench.net.create(NetworkSpec(name="y", subnets=sub("10.8.0.0/24")))
    first, second = box("first").id, box("second").id
    bench.net.reserve(first, [on(one, ip="10.9.0.7")])
    bench.net.reserve(first, [on(two, ip="10.8.0.7")], more=True)
    for want in (on(one, ip="10.9.0.7"), on(two, ip="10.8.0.7")):
        with pytest.raises(InUse):
            bench.net.reserve(second, [want], more=True)
    bench.net.unreserve(first, one.id)
    bench.net.reserve(second, [on(one, ip="10.9.0.7")])
    with pytest.raises(InUse):
        bench.net.reserve(second, [on(two, ip="10.8.0.7")], more=True)
    with pytest.raises(InUse):  # and what it has stays its own
        bench.net.reserve(first, [on(one, ip="10.9.0.7")], more=True)


def test_a_busy_port_is_reported_in_dockers_words_and_nothing_stays(bench: Bench) -> None:
    bridge = bench.net.find("bridge")
    bench.net.open(box("one"), [on(bridge)], [tcp(80, 21491)])
    before = bench.things()
    with pytest.raises(Conflict) as error:
        bench.net.open(box("two"), [on(bridge)], [tcp(80, 21491)])
    text = str(error.value)
    assert text.startswith("driver failed programming external connectivity on endpoint two (")
    assert text.endswith(
        f": Bind for {IP}:21491 failed: port is already allocated (by container one)"
    )
    assert bench.things() == before
    assert bench.held() == 1


def test_the_highest_priority_has_the_default_route_then_the_first_name(bench: Bench) -> None:
    nets = {n: bench.net.create(NetworkSpec(name=n))[0] for n in ("zeta", "beta")}
    records = bench.net.open(box(), [on(nets["zeta"]), on(nets["beta"])], [tcp(80)])
    assert [r.is_default for r in records] == [False, True]
    assert [bool(r.ports) for r in records] == [False, True]
    assert [r.ifname for r in records] == ["eth0", "eth1"]
    records = bench.net.open(
        box("b"), [on(nets["zeta"], gw_priority=1), on(nets["beta"])], [tcp(80)]
    )
    assert [r.is_default for r in records] == [True, False]
    routes = [k for k in bench.kernel.things if k[:2] == ("route", box("b").ns)]
    assert routes == [("route", box("b").ns, "0.0.0.0/0")]


def test_internal_networks_carry_no_default_route_and_publish_nothing(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x", internal=True))
    (r,) = bench.net.open(box(), [on(net, gw_priority=9)], [tcp(80, 21492)])
    assert (r.gateway, r.is_default, r.ports) == ("", False, ())
    assert not [k for k in bench.kernel.things if k[0] == "route"]


def test_a_routed_network_opens_the_port_and_holds_none_of_the_host(bench: Bench) -> None:
    spec = NetworkSpec(name="x", options={f"{BR}gateway_mode_ipv4": "routed"})
    net, _ = bench.net.create(spec)
    (r,) = bench.net.open(box(), [on(net)], [tcp(80, 21493)])
    assert [(p.host_ip, p.host_port, p.container_port) for p in r.ports] == [("", 0, 80)]
    bench.ports.reserve("other", [tcp(80, 21493, IP)], "-")


def test_after_a_kill_in_the_middle_of_a_leave_the_names_go_as_well(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="lan"))
    bench.net.open(box(), [on(bench.net.find("bridge")), on(net)], [])
    (leaving,) = bench.net.endpoints(network=net.id)
    bench.net._parts.records.mark(leaving.id, "leaving")
    bench.killed()
    bench.net.restore({box().id: box()})
    assert not bench.net.endpoints(network=net.id)
    assert bench.names_seen.left == [leaving.id]


def test_an_isolated_network_has_no_address_of_the_host(bench: Bench) -> None:
    options = {f"{BR}gateway_mode_ipv4": "isolated"}
    net, _ = bench.net.create(NetworkSpec(name="x", internal=True, options=options))
    assert net.spec.subnets[0].gateway == ""
    (r,) = bench.net.open(box(), [on(net)], [])
    assert r.address == "172.18.0.1/16"
    bench.killed()
    bench.net.restore({box().id: box()})
    assert bench.net.endpoints() == [r]


def test_host_and_none(bench: Bench) -> None:
    host, none = bench.net.find("host"), bench.net.find("none")
    before = bench.things()
    mine = Sandbox(id="f" * 64, name="h", ns="")
    (r,) = bench.net.open(mine, [on(host)], [tcp(80)])
    assert (r.address, r.mac, r.ports, bench.things()) == ("", "", (), before)
    (r,) = bench.net.open(box(), [on(none)], [tcp(80)])
    assert bench.things() == {**before, ("netns", box().ns): Netns(path=box().ns)}
    with pytest.raises(InvalidSpec, match="do not go together"):
        bench.net.open(box("c"), [on(host)], [])
    with pytest.raises(InvalidSpec, match="do not go together"):
        bench.net.open(Sandbox(id="e" * 64, name="h", ns=""), [on(bench.net.find("bridge"))], [])
    bench.net.close(mine.id)
    bench.net.close(box().id)
    assert bench.things() == before


def test_interface_names(bench: Bench) -> None:
    lan = {"com.docker.network.container_iface_prefix": "lan"}
    one, _ = bench.net.create(NetworkSpec(name="one", options=lan))
    two, _ = bench.net.create(NetworkSpec(name="two"))
    three, _ = bench.net.create(NetworkSpec(name="three"))
    driver_options = {"com.docker.network.endpoint.ifname": "eth0"}
    records = bench.net.open(box(), [on(one), on(two, driver_opts=driver_options), on(three)], [])
    assert [r.ifname for r in records] == ["lan0", "eth0", "eth1"]
    with pytest.raises(Conflict, match="interface name eth0 is already taken"):
        bench.net.open(box("b"), [on(two), on(three, ifname="eth0")], [])
    for bad in ("lo", "a/b", "sixteen-letters-"):
        with pytest.raises(InvalidSpec, match="invalid interface name"):
            bench.net.open(box("b"), [on(two, ifname=bad)], [])


def test_endpoint_settings_are_set_for_the_right_interface(bench: Bench) -> None:
    key = "com.docker.network.endpoint.sysctls"
    # The docker CLI makes it all small letters.
    opts = {key: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.ifname.mcast_solicit=2"}
    bench.net.open(box(), [on(bench.net.find("bridge"), driver_opts=opts)], [])
    name = "net/ipv4/conf/eth0/log_martians"
    assert bench.kernel.things["sysctl", box().ns, name] == Sysctl(
        name=name, value="1", ns=box().ns
    )
    name = "net/ipv4/neigh/eth0/mcast_solicit"
    assert bench.kernel.things["sysctl", box().ns, name].value == "2"  # type: ignore[attr-defined]
    for bad in ("net.ipv4.ip_forward=1", "kernel.x.y.IFNAME.z=1", "net.ipv4.conf.IFNAME.x",
                "net.ipv4.IFNAME.conf.x=1", "net.ipv4.conf.IfName.x=1"):  # fmt: skip
        with pytest.raises(InvalidSpec, match="unrecognised network interface sysctl"):
            bench.net.open(box("b"), [on(bench.net.find("bridge"), driver_opts={key: bad})], [])


def test_endpoint_options_of_ours_are_known_and_foreign_ones_do_no_harm(bench: Bench) -> None:
    bridge = bench.net.find("bridge")
    for bad in ("com.docker.network.endpoint.macaddress", "netkit.x", "ifnam"):
        with pytest.raises(InvalidSpec, match=f"unknown .*option '{bad}'"):
            bench.net.open(box("b"), [on(bridge, driver_opts={bad: "y"})], [])
    bench.net.open(box("b"), [on(bridge, driver_opts={"com.example.x": "y"})], [])


def test_mac_addresses(bench: Bench) -> None:
    bridge = bench.net.find("bridge")
    (r,) = bench.net.open(box(), [on(bridge, mac="02-42-AC-11-00-99")], [])
    assert r.mac == "02:42:ac:11:00:99"
    assert bench.kernel.peers["link", "", f"veth{r.id[:11]}"].mac == r.mac
    (r,) = bench.net.open(box("b"), [on(bridge)], [])
    assert int(r.mac[:2], 16) & 3 == 2
    for bad in ("01:00:5e:00:00:01", "00:00:00:00:00:00", "02:42"):
        with pytest.raises(InvalidSpec, match="invalid MAC address"):
            bench.net.open(box("c"), [on(bridge, mac=bad)], [])


def test_static_addresses_are_for_networks_with_a_subnet_of_the_users(bench: Bench) -> None:
    user, _ = bench.net.create(NetworkSpec(name="user", subnets=sub("10.9.0.0/24")))
    auto, _ = bench.net.create(NetworkSpec(name="auto"))
    (r,) = bench.net.open(box(), [on(user, ip="10.9.0.77")], [])
    assert r.address == "10.9.0.77/24"
    for net, ip, message in (
        (bench.net.find("bridge"), "172.17.0.9", "supported on user defined networks only"),
        (auto, "172.18.0.9", "only when connecting to networks with user configured subnets"),
        (user, "10.8.0.1", "no configured subnet contains IP address 10.8.0.1"),
        (user, "10.9.0.255", "network or broadcast address"),
        (user, "ten", "invalid IPv4 address: ten"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            bench.net.open(box("b"), [on(net, ip=ip)], [])
    for taken in ("10.9.0.77", "10.9.0.1"):
        with pytest.raises(InUse, match="Address already in use"):
            bench.net.open(box("b"), [on(user, ip=taken)], [])


def test_a_static_address_is_kept_from_creation_to_removal(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x", subnets=sub("10.9.0.0/24")))
    bench.net.reserve(box("db").id, [on(net, ip="10.9.0.2")])
    (r,) = bench.net.open(box("web"), [on(net)], [])
    assert r.address == "10.9.0.3/24"
    with pytest.raises(InUse):
        bench.net.reserve(box("other").id, [on(net, ip="10.9.0.2")])
    (r,) = bench.net.open(box("db"), [on(net, ip="10.9.0.2")], [])
    assert r.address == "10.9.0.2/24"
    bench.net.close(box("db").id)
    bench.killed()
    bench.net.restore({box("web").id: box("web")})
    (r,) = bench.net.open(box("new"), [on(net)], [])
    assert r.address == "10.9.0.4/24"
    bench.net.forget(box("db").id)
    (r,) = bench.net.open(box("newer"), [on(net)], [])
    assert r.address == "10.9.0.2/24"


# joining and leaving


def test_a_container_joins_and_leaves_while_it_runs(bench: Bench) -> None:
    bridge, (back, _) = bench.net.find("bridge"), bench.net.create(NetworkSpec(name="back"))
    bench.net.open(box(), [on(bridge)], [tcp(80, 21494)])
    before = bench.things()
    joined = bench.net.connect(box(), on(back, gw_priority=1, names=("web",)))
    assert (joined.ifname, joined.is_default) == ("eth1", True)
    assert [p.host_port for p in joined.ports] == [21494]
    old, new = bench.net.endpoints(sandbox=box().id)
    assert (old.is_default, old.ports, new) == (False, (), joined)
    route = bench.kernel.things["route", box().ns, "0.0.0.0/0"]
    assert (getattr(route, "dev"), str(getattr(route, "gateway"))) == ("eth1", "172.18.0.1")  # noqa: B009
    assert bench.names_seen.now == {old.id: old, new.id: new}
    port = bench.kernel.things["link", "", f"veth{old.id[:11]}"]
    assert getattr(port, "hairpin") is False  # noqa: B009  it publishes no ports any more
    with pytest.raises(AlreadyExists, match="with name web already exists in network back"):
        bench.net.connect(box(), on(back))
    bench.net.disconnect(box().id, back.id)
    assert bench.things() == before
    (again,) = bench.net.endpoints(sandbox=box().id)
    assert again.is_default
    assert [p.host_port for p in again.ports] == [21494]
    assert bench.names_seen.now == {again.id: again}
    with pytest.raises(NotFound, match="container web is not connected to network"):
        bench.net.disconnect(box().id, back.id)


def test_networks_change_between_two_runs_in_a_shared_namespace(bench: Bench) -> None:
    """Foreign objects in the namespace stay: the namespace was not made anew."""
    (b, _), (c, _) = (bench.net.create(NetworkSpec(name=n)) for n in "bc")
    bridge = on(bench.net.find("bridge"))
    bench.net.open(box(), [bridge, on(b)], [tcp(80, 21494)])
    theirs = Addr(dev="lo", ns=box().ns, address=IPv4Interface("198.51.100.1/32"))
    bench.kernel.things["link", box().ns, "lo"] = Link(name="lo", ns=box().ns, kind="loopback")
    bench.kernel.things[theirs.key] = theirs
    other = LinkedPorts(sandbox="b" * 64, ports=(("tcp", 1),))
    for wants in ([bridge, on(c)], [on(c)], [replace(bridge, opens=(other,)), on(c)], [bridge]):
        bench.net.open(box(), wants, [tcp(80, 21494)], shared=True)
        assert [r.spec for r in bench.net.endpoints()] == wants
        assert theirs.key in bench.kernel.things
        assert bench.net.drift() == ()
    bench.net.open(box(), [bridge, on(c)], [tcp(80, 21494)])
    assert theirs.key not in bench.kernel.things


def test_ports_wait_for_a_network_that_publishes(bench: Bench) -> None:
    internal, _ = bench.net.create(NetworkSpec(name="x", internal=True))
    bench.net.open(box(), [on(internal)], [tcp(80, 21495)])
    joined = bench.net.connect(box(), on(bench.net.find("bridge")))
    assert [p.host_port for p in joined.ports] == [21495]
    bench.net.disconnect(box().id, joined.network)
    bench.net.close(box().id)
    bench.ports.reserve("other", [tcp(80, 21495, IP)], "-")


@pytest.mark.parametrize("step", range(5))
def test_joining_that_fails_leaves_the_container_as_it_was(bench: Bench, step: int) -> None:
    bridge, (back, _) = bench.net.find("bridge"), bench.net.create(NetworkSpec(name="back"))
    records = bench.net.open(box(), [on(bridge)], [tcp(80)])
    before, original = bench.things(), bench.inline.converge

    def failing(change: Change) -> Plan:
        ends = {k for k in change.desired if k[0] == "addr" and k[2] == "eth1"}
        bench.kernel.fail_at = step if ends else None
        return original(change)

    bench.inline.converge = failing  # type: ignore[method-assign]
    with pytest.raises(KernelError, match="injected"):
        bench.net.connect(box(), on(back, gw_priority=1))
    bench.inline.converge = original  # type: ignore[method-assign]
    bench.kernel.fail_at = None
    assert bench.things() == before
    assert bench.net.endpoints() == records
    assert bench.held() == 1
    bench.net.connect(box(), on(back))


def test_only_an_open_container_joins(bench: Bench) -> None:
    with pytest.raises(Conflict, match="is not running: its network is not there"):
        bench.net.connect(box(), on(bench.net.find("bridge")))


def test_a_container_gets_another_name(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    bench.net.open(box(), [on(net, names=("web", "www"))], [])
    bench.net.rename(box().id, "shop", {net.id: ("shop", "www")})
    (r,) = bench.net.endpoints()
    assert (r.owner_name, r.spec.names) == ("shop", ("shop", "www"))
    assert bench.names_seen.now == {r.id: r}
    with pytest.raises(Forbidden, match='name:"shop"'):
        bench.net.remove("x")
    bench.net.rename("0" * 64, "nobody", {})


# several at once


def test_sandboxes_open_at_the_same_time(bench: Bench) -> None:
    """No lock is held while the kernel is changed: each waits there for the other."""
    meet, original = threading.Barrier(2, timeout=30), bench.inline.converge

    def together(change: Change) -> Plan:
        meet.wait()
        return original(change)

    bench.inline.converge = together  # type: ignore[method-assign]
    bridge, errors = bench.net.find("bridge"), list[BaseException]()
    threads = [
        threading.Thread(target=caught(lambda b=b: bench.net.open(b, [on(bridge)], []), errors))
        for b in (box("one"), box("two"))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert {r.address for r in bench.net.endpoints()} == {"172.17.0.2/16", "172.17.0.3/16"}


def caught(act: Callable[[], object], errors: list[BaseException]) -> Callable[[], None]:
    def run() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    return run


@pytest.mark.slow
def test_many_threads_leave_nothing_behind(bench: Bench) -> None:
    bridge, errors, before = bench.net.find("bridge"), list[BaseException](), bench.things()

    def live(n: int) -> None:
        for i in range(5):
            one = box(f"c{n}-{i}")
            bench.net.open(one, [on(bridge)], [tcp(80)])
            net, _ = bench.net.create(NetworkSpec(name=f"n{n}-{i}"))
            bench.net.connect(one, on(net))
            bench.net.close(one.id)
            bench.net.remove(net.id)

    threads = [threading.Thread(target=caught(lambda n=n: live(n), errors)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert bench.things() == before
    assert bench.held() == 0
    assert bench.ports._by_holder == {}


def test_the_same_sandbox_opened_twice_at_once_is_one(bench: Bench) -> None:
    bridge, errors = bench.net.find("bridge"), list[BaseException]()
    act = caught(lambda: bench.net.open(box(), [on(bridge)], []), errors)
    threads = [threading.Thread(target=act) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []
    assert len(bench.net.endpoints()) == 1


@pytest.mark.slow
def test_a_network_is_removed_or_joined_and_never_both(bench: Bench) -> None:
    for i in range(20):
        net, _ = bench.net.create(NetworkSpec(name=f"n{i}"))
        errors: list[BaseException] = []
        threads = [
            threading.Thread(target=caught(act, errors))
            for act in (
                lambda n=net: bench.net.open(box(), [on(n)], []),
                lambda n=net: bench.net.remove(n.id),
            )
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        (error,) = errors
        assert isinstance(error, Forbidden | NotFound), error
        bench.net.close(box().id)
        if isinstance(error, Forbidden):
            bench.net.remove(net.id)
    assert len(bench.net.all()) == 3


# after a restart


def test_a_restart_finds_everything_as_it_was(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x", subnets=sub("10.9.0.0/24")))
    bench.net.open(box(), [on(bench.net.find("bridge")), on(net)], [tcp(80, 21496)])
    networks, records = bench.net.all(), bench.net.endpoints()
    things = dict(bench.kernel.things)
    bench.killed()
    bench.inline.plans.clear()
    bench.net.restore({box().id: box()})
    assert [p for p in bench.inline.plans if p] == []
    assert bench.kernel.things == things
    assert (bench.net.all(), bench.net.endpoints()) == (networks, records)
    assert bench.names_seen.now == {r.id: r for r in records}
    with pytest.raises(Conflict, match="already allocated"):
        bench.net.open(box("b"), [on(net)], [tcp(80, 21496, IP)])
    (new,) = bench.net.open(box("b"), [on(net)], [])
    assert new.address == "10.9.0.3/24"


def test_who_died_meanwhile_is_cleaned_up(bench: Bench) -> None:
    bridge, before = bench.net.find("bridge"), bench.things()
    bench.net.open(box("dead"), [on(bridge)], [tcp(80)])
    bench.net.open(box("live"), [on(bridge)], [])
    bench.killed()
    bench.net.restore({box("live").id: box("live")})
    assert {r.owner_name for r in bench.net.endpoints()} == {"live"}
    assert bench.held() == 1
    bench.net.close(box("live").id)
    assert bench.things() == before


def test_after_a_reboot_all_is_free_and_the_networks_are_back(bench: Bench) -> None:
    net, _ = bench.net.create(NetworkSpec(name="x"))
    bench.net.open(box(), [on(net)], [tcp(80)])
    bench.net.close(box().id)
    things = dict(bench.kernel.things)
    bench.net.open(box(), [on(net)], [tcp(80)])
    bench.killed()
    bench.kernel.things.clear()
    bench.kernel.peers.clear()
    bench.net.restore({})
    assert bench.kernel.things == things
    assert (bench.held(), bench.net.endpoints()) == (0, [])


def test_what_is_broken_at_the_start_is_repaired(bench: Bench) -> None:
    bench.net.open(box(), [on(bench.net.find("bridge"))], [tcp(80)])
    things = dict(bench.kernel.things)
    bench.killed()
    for key in [k for k in things if k[0] in {"rule", "link"}]:
        if key in bench.kernel.things:
            bench.kernel._remove(bench.kernel.things[key])
    bench.net.restore({box().id: box()})
    assert bench.kernel.things == things


class Killed(BaseException):
    pass


def deaths(bench: Bench, act: Callable[[], object]) -> Iterator[int]:
    """Run `act`, killed at the n-th statement that writes, for every n; yield after each kill.

    Of single use cases test_kills.py has all points."""
    for n in range(200):
        database, left = bench.database, n
        original = database.execute

        def execute(sql: str, args: Sequence[object] = ()) -> int:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return original(sql, args)  # noqa: B023  called before the next turn

        converge = bench.inline.converge

        def mortal(change: Change) -> Plan:
            nonlocal left
            if left <= 0:
                raise Killed
            left -= 1
            return converge(change)  # noqa: B023

        database.execute = execute  # type: ignore[method-assign]
        bench.inline.converge = mortal  # type: ignore[method-assign]
        try:
            act()
        except Killed:
            pass
        else:
            return
        finally:
            bench.inline.converge = converge  # type: ignore[method-assign]
            database.execute = original  # type: ignore[method-assign]
        bench.killed()
        yield n
    raise AssertionError("never finished")


def test_an_address_is_not_allocated_while_a_namespace_has_it(bench: Bench) -> None:
    """Killed while closing, and yet the container is alive: it keeps what it has."""
    (r,) = bench.net.open(box(), [on(bench.net.find("bridge"))], [])
    bench.database.execute("UPDATE sandboxes SET state='leaving'")
    bench.killed()
    bench.net.restore({box().id: box()})
    assert bench.net.endpoints() == [r]
    (other,) = bench.net.open(box("b"), [on(bench.net.find("bridge"))], [])
    assert other.address == "172.17.0.3/16"


def test_what_is_tagged_ours_and_not_desired_is_swept_and_the_rest_is_not(bench: Bench) -> None:
    args = ("-j", "ACCEPT")
    theirs = [
        Link(name="lxcbr0", kind="bridge"),
        Link(name="other", kind="bridge", owner="netkit:e2:x"),
        Rule(table="filter", chain="FORWARD", args=("-j", "ACCEPT"), owner=None, rank=3),
    ]
    ours = [
        Link(name="br-old", kind="bridge", owner="netkit:e1:old"),
        Rule(table="nat", chain="DOCKER", args=args, owner="netkit:e1:old:x"),
        Netns(path=f"{NETNS}/old"),
    ]
    bench.kernel.apply([Op(None, r) for r in (*theirs, *ours)])
    bench.killed()
    bench.net.restore({})
    assert [r.key for r in ours if r.key in bench.kernel.things] == []
    assert [r.key for r in theirs if r.key not in bench.kernel.things] == []


def test_the_namespace_of_an_unknown_container_is_not_swept(bench: Bench) -> None:
    bench.kernel.things["netns", box().ns] = Netns(path=box().ns)
    bench.net.restore({box().id: box()})
    assert ("netns", box().ns) in bench.kernel.things


def test_other_settings_remake_docker0_once_it_is_empty(bench: Bench) -> None:
    old = bench.net.find("bridge")
    bench.killed()
    bench.net.restore({})
    assert bench.net.find("bridge") == old
    bench.net.open(box(), [on(old)], [])
    bench.killed(bip="10.5.0.1/24", icc=False)
    bench.net.restore({box().id: box()})
    assert bench.net.find("bridge") == old
    bench.net.close(box().id)
    bench.killed()
    bench.net.restore({})
    new = bench.net.find("bridge")
    assert new.spec.subnets[0] == SubnetSpec(subnet="10.5.0.0/24", gateway="10.5.0.1")
    assert ("addr", "", "docker0", "10.5.0.1/24") in bench.kernel.things
    bench.killed()
    bench.net.restore({})
    assert bench.net.find("bridge") == new


def test_bridge_none_means_no_default_network(bench: Bench) -> None:
    bench.killed(bridge="none")
    bench.net.restore({})
    assert [n.spec.name for n in bench.net.all()] == ["host", "none"]
    assert ("link", "", "docker0") not in bench.kernel.things
    with pytest.raises(Forbidden):
        bench.net.create(NetworkSpec(name="bridge"))


def test_a_network_of_a_missing_driver_is_remembered_and_left_alone(bench: Bench) -> None:
    class Other(Bridge):
        name = "other"

    bench.net._parts.registry._drivers = {**DRIVERS, "other": Other()}
    net, _ = bench.net.create(NetworkSpec(name="x", driver="other"))
    things = dict(bench.kernel.things)
    bench.killed()
    bench.net.restore({})
    assert bench.kernel.things == things
    assert bench.net.find("x") == net
    with pytest.raises(NotFound, match="could not find plugin other"):
        bench.net.open(box(), [on(net)], [])


def test_settings() -> None:
    spec = NetworkConfig(bip="10.5.0.1/24", fixed_cidr="10.5.0.128/25", mtu=1400).default_bridge()
    assert spec is not None
    assert spec.subnets == sub("10.5.0.0/24", gateway="10.5.0.1", ip_range="10.5.0.128/25")
    assert spec.options["com.docker.network.driver.mtu"] == "1400"
    for bad in (
        NetworkConfig(bip="x"),
        NetworkConfig(bridge="none", bip="10.5.0.1/24"),
        NetworkConfig(default_gateway="10.5.0.1"),
    ):
        with pytest.raises(InvalidSpec):
            bad.default_bridge()


BR0 = Link(name="br0", kind="bridge", up=True)
ON_BR0 = Addr(dev="br0", address=IPv4Interface("192.168.100.1/24"))


def found(*addresses: str) -> tuple[IPv4Interface, ...]:
    return tuple(map(IPv4Interface, addresses))


def test_an_existing_bridge_is_used_as_it_is_and_stays_when_another_takes_its_place(
    bench: Bench,
) -> None:
    bench.kernel.apply([Op(None, BR0), Op(None, ON_BR0)])
    before = of_br0(bench)
    bench.killed(
        bridge="br0",
        existing_addresses=found("192.168.100.1/24"),
        fixed_cidr="192.168.100.128/26",
    )
    bench.net.restore({})
    net = bench.net.find("bridge")
    assert net.spec.subnets == sub(
        "192.168.100.0/24", gateway="192.168.100.1", ip_range="192.168.100.128/26"
    )
    assert ("link", "", "docker0") not in bench.kernel.things
    (ep,) = bench.net.open(box(), [on(net)], [])
    assert ep.address == "192.168.100.128/24"
    bench.net.close(box().id)
    bench.killed(bridge="docker0", existing_addresses=(), fixed_cidr="")
    bench.net.restore({})
    assert ("link", "", "docker0") in bench.kernel.things
    assert of_br0(bench) == before


def of_br0(bench: Bench) -> list[Resource]:
    return [r for k, r in bench.kernel.things.items() if k[0] in {"addr", "link"} and "br0" in k]


def test_a_bridge_that_is_not_there_or_has_no_address_is_refused_with_the_commands(
    bench: Bench,
) -> None:
    bench.killed(bridge="br0")
    with pytest.raises(InvalidSpec, match=r"br0 must exist .* ip link add br0 type bridge"):
        bench.net.restore({})
    assert ("link", "", "br0") not in bench.kernel.things


def test_an_address_that_docker0_was_given_by_hand_is_kept() -> None:
    spec = NetworkConfig(existing_addresses=found("192.168.200.1/24")).default_bridge()
    assert spec is not None
    assert spec.subnets == sub("192.168.200.0/24", gateway="192.168.200.1")
    chosen = NetworkConfig(
        existing_addresses=found("192.168.200.1/24"), bip="10.5.0.1/24"
    ).default_bridge()
    assert chosen is not None
    assert chosen.subnets == sub("10.5.0.0/24", gateway="10.5.0.1")


def test_of_several_addresses_the_one_of_the_fixed_range_counts() -> None:
    two = found("10.1.0.1/24", "10.2.0.1/24")
    for bridge in ("br0", "docker0"):
        spec = NetworkConfig(
            bridge=bridge, existing_addresses=two, fixed_cidr="10.2.0.64/26"
        ).default_bridge()
        assert spec is not None
        assert spec.subnets == sub("10.2.0.0/24", gateway="10.2.0.1", ip_range="10.2.0.64/26")
    other = NetworkConfig(existing_addresses=two, fixed_cidr="10.3.0.0/24").default_bridge()
    assert other is not None
    assert other.subnets == sub("10.3.0.0/24", ip_range="10.3.0.0/24")


def test_forwarding_is_the_administrators_if_the_settings_say_so(tmp_path: Path) -> None:
    database, kernel = Database(tmp_path / "db"), FakeKernel()
    settings = NetworkConfig(ip_forward=False, ipv6_stack=False)
    net = Controller(
        database, Inline(kernel, "e1"), DRIVERS, Iptables(), engine="e1", settings=settings
    )
    net.start()
    names = {r.name for r in kernel.things.values() if isinstance(r, Sysctl)}
    assert names == {"net/ipv4/conf/docker0/route_localnet"}
    database.close()
