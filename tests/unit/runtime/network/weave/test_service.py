"""What netkit's routes do with the overlay, on a kernel and a process in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from netkit.errors import (
    Conflict,
    Forbidden,
    InUse,
    InvalidSpec,
    KernelError,
    NetkitError,
    NotFound,
)
from netkit.network.address_requests import in_other_subnets, parse
from netkit.network.overlay_networks import OverlayNetworks
from netkit.network.remote import RemoteState
from netkit.overlay import verbs
from netkit.overlay.folders import Folders
from netkit.spec import NetworkSpec, SubnetSpec
from runtime.container.config import EndpointSettings
from runtime.events import Events
from runtime.network.networks import NetworksService
from runtime.network.weave import service
from runtime.network.weave.launching import HostRoute
from runtime.network.weave.remote_members import RemoteMembers
from runtime.network.weave.requests import (
    AttachRequest,
    DetachRequest,
    DnsRequest,
    ExposeRequest,
    HideRequest,
    LaunchRequest,
)
from runtime.network.weave.service import WeaveService
from runtime.network.weave.shown import shown
from tests.unit.runtime.network.weave.host_bench import Containers, HostBench


class ServiceBench(HostBench):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.process.launched = self.process.running = False
        self.routes: list[HostRoute] = []
        self.containers = Containers(self.net)
        networks: Any = self.net
        self.weave = WeaveService(
            self.addresses, networks, self.net.overlay_networks, self.containers,
            lambda: self.routes, RemoteMembers(self, self._absent),
        )  # fmt: skip
        self.following = self.weave.following
        self.net.on_change = self.following.notify

    def update(self, states: dict[str, RemoteState]) -> None:
        """Of containers elsewhere: there are none."""

    def _absent(self) -> Any:
        raise NotFound("it has no members to tell of")

    def launch(self, **more: Any) -> dict[str, Any]:
        return self.weave.launch(LaunchRequest(**more))

    def names(self) -> list[str]:
        return [record.spec.name for record in self.net.all()]

    @property
    def process_names(self) -> list[tuple[str, ...]]:
        return [(v.name, *v.addresses, v.container) for v in self.process.of(verbs.DnsAdd)]


class Emitted:
    def emit(self, *what: object) -> None:
        """To nobody."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[ServiceBench]:
    made = ServiceBench(tmp_path)
    yield made
    made.weave.close()


def test_a_launch_makes_the_network_and_tells_the_process(bench: ServiceBench) -> None:
    status = bench.launch(nickname="h1", peers=["192.0.2.7"], mtu=1300)
    assert (status["Running"], status["Launched"], status["Warnings"]) == (True, True, [])
    assert status["Status"]["ipam"] == {"range": "10.32.0.0/12", "ledger": "01"}
    assert status["DefaultSubnet"] == "10.32.0.0/12"
    assert [n.mtu for n in bench.process.networks.values()] == [1300]
    assert (bench.process.settings.founder, bench.process.settings.resume) == (False, False)
    with pytest.raises(Conflict, match="netkit weave stop"):
        bench.launch()
    bench.weave.stop()
    assert bench.names() == ["weave"]
    assert bench.weave.status() == {
        "Running": False, "Launched": False, "Status": None, "Process": None,
        "DefaultSubnet": "10.32.0.0/12", "Warnings": [],
    }  # fmt: skip
    assert bench.launch()["Running"]
    assert bench.process.settings.founder


def test_a_launch_that_fails_leaves_no_network(bench: ServiceBench) -> None:
    bench.process.fails = "UDP port 6783 cannot be opened"
    with pytest.raises(KernelError, match="6783"):
        bench.launch()
    assert bench.names() == []
    bench.weave.following.notify()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"range": "10.32.0.0"}, "invalid range '10.32.0.0'"),
        ({"range": "10.32.0.1/12"}, "host bits"),
        ({"range": "10.0.0.0/4"}, "length of 8 to 30|host bits"),
        ({"default_subnet": "10.64.0.0/16"}, "is not in the range"),
        ({"trusted_subnets": ["x"]}, "invalid trusted subnet 'x'"),
        ({"peers": ["h1:x"]}, "is no peer"),
        ({"nickname": "a b"}, "invalid nickname"),
        ({"nickname": "a" * 64}, "invalid nickname"),
        ({"host": "eth0"}, "invalid address 'eth0'"),
        ({"advertise": ["h1"]}, "invalid address 'h1'"),
        ({"port": 65535}, "invalid port"),
        ({"mtu": 67}, "invalid MTU"),
        ({"password": "x" * 254}, "longer than 253 characters"),
        ({"trusted_subnets": [f"10.{n}.0.0/16" for n in range(9)]}, "8 at most"),
        ({"peers": ["h" * 254]}, "1 to 253 characters"),
        ({"peers": [""]}, "1 to 253 characters"),
        ({"peers": [f"192.0.2.{n % 250}:{n + 1}" for n in range(257)]}, "257 peers"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_a_line(
    bench: ServiceBench, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidSpec, match=words) as caught:
        bench.launch(**given)
    assert "\n" not in str(caught.value)
    assert bench.names() == []
    assert not bench.process.launched


def test_a_range_that_is_in_use_on_the_host(bench: ServiceBench) -> None:
    bench.routes = [HostRoute(IPv4Network("10.33.0.0/16"), "eth1")]
    with pytest.raises(Conflict, match=r"10\.32\.0\.0/12 overlaps .* 10\.33\.0\.0/16 dev eth1"):
        bench.launch()
    assert bench.names() == []
    (warning,) = bench.launch(range="10.32.0.0/12")["Warnings"]
    assert "10.33.0.0/16 dev eth1" in warning


def test_networks_may_be_inside_of_the_one_that_launch_makes(bench: ServiceBench) -> None:
    bench.network("early", "10.33.0.0/16", expose="true")
    early = bench.net.overlay_networks.find("early").ports.bridge
    bench.routes = [HostRoute(IPv4Network("10.33.0.0/16"), early)]
    bench.launch()
    bench.network("lane", "10.40.0.0/16")
    assert bench.names() == ["early", "weave", "lane"]
    for subnet, words in (
        ("10.32.0.0/12", r"network weave: use --subnet with one that is smaller than 10\.32"),
        ("10.0.0.0/8", r"use --subnet with one that is smaller than 10\.32\.0\.0/12 or apart"),
        ("10.40.1.0/24", r"network lane: use --subnet with one that is apart from 10\.40"),
        ("10.40.0.0/15", r"network lane: use --subnet"),
    ):
        with pytest.raises(Forbidden, match=words):
            bench.network("other", subnet)
    assert bench.names() == ["early", "weave", "lane"]


def test_a_network_of_a_name_that_others_have_gets_their_subnet(bench: ServiceBench) -> None:
    networks = NetworksService(bench.net, cast(Events, Emitted()))
    networks.completed = bench.weave.as_elsewhere
    bench.process.subnets = {"mm": ["x", "10.62.0.0/16"], "nn": ["fd00::/64"]}

    def made(name: str, *subnets: str) -> str:
        parts = tuple(SubnetSpec(subnet=each) for each in subnets)
        record = networks.create(NetworkSpec(name=name, driver="weave", subnets=parts)).record
        networks.remove(record.id)
        return record.spec.subnets[0].subnet

    before = made("mm")
    assert before != "10.62.0.0/16", "the overlay is not launched"
    bench.launch()
    assert made("mm") == "10.62.0.0/16"
    assert made("mm", "10.61.0.0/16") == "10.61.0.0/16"
    assert made("nn") == made("other") == before
    bench.process.before = _silent
    assert made("mm") == before


def _silent(verb: verbs.Known) -> None:
    if isinstance(verb, verbs.SubnetsOf):
        raise KernelError("the weave overlay does not answer")


def test_what_the_process_warns_of_is_logged_once(
    bench: ServiceBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "netkit.weave")
    bench.process.warnings = ["network mm has other subnets"]
    bench.launch()
    bench.following.settle()
    bench.following.settle()
    bench.process.warnings = []
    bench.following.settle()
    found = [record.getMessage() for record in caplog.records if "mm" in record.getMessage()]
    assert found == [
        "weave: network mm has other subnets", "weave: over: network mm has other subnets"
    ]  # fmt: skip


def test_a_launch_whose_range_others_have(bench: ServiceBench) -> None:
    bench.network("lane", "10.32.0.0/11")
    with pytest.raises(Forbidden, match="launch with a larger range, or one apart from it, or"):
        bench.launch()
    assert bench.names() == ["lane"]


def test_another_range_or_another_network_of_that_name(bench: ServiceBench) -> None:
    bench.launch(range="10.40.0.0/16", default_subnet="10.40.1.0/24")
    bench.weave.stop()
    with pytest.raises(Conflict, match=r"range 10\.40\.0\.0/16: netkit weave reset"):
        bench.launch(range="10.41.0.0/16")
    with pytest.raises(Conflict, match=r"subnet 10\.40\.1\.0/24: netkit weave reset"):
        bench.launch(default_subnet="10.40.2.0/24", range="10.40.0.0/16")
    bench.launch()
    assert bench.process.settings.range == "10.40.0.0/16", "as before, where none is given"


@pytest.mark.parametrize("why", ["nobody founded it: weave prime", "no peer was reached yet"])
def test_a_launch_says_why_there_are_no_addresses(
    bench: ServiceBench, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(service, "MEETING", 0.02)
    monkeypatch.setattr(service, "LOOK", 0.01)
    bench.process.without = why
    assert bench.launch(peers=["192.0.2.7"])["Warnings"] == [why]


def test_resume_goes_on_with_all_settings_of_the_former_launch(bench: ServiceBench) -> None:
    first = {
        "nickname": "h1", "password": "secret", "trusted_subnets": ["10.9.0.0/16"],
        "discovery": False, "fastdp": False, "host": "127.0.0.1", "port": 7000,
        "advertise": ["192.0.2.1"], "range": "10.40.0.0/16",
    }  # fmt: skip
    bench.launch(**first)
    former = bench.process.settings
    assert former is not None
    bench.weave.stop()
    bench.launch(resume=True)
    again = bench.process.settings
    assert again == replace(former, launch=again.launch, resume=True, founder=False)
    bench.weave.stop()
    bench.launch(resume=True, password="other", discovery=True, peers=["192.0.2.7"], port=7001)
    other = bench.process.settings
    assert (other.password, other.discovery, other.port) == ("other", True, 7001)
    assert (other.nickname, other.fastdp, len(other.peers)) == ("h1", False, 1)
    bench.weave.reset()
    with pytest.raises(Conflict, match="no former launch to resume"):
        bench.launch(resume=True)
    assert bench.names() == []


def test_what_is_resumed_while_it_is_being_stopped_has_its_password(
    bench: ServiceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.launch(password="secret")
    resuming = threading.Thread(target=lambda: bench.launch(resume=True))
    stop = bench.process.stop

    def slowly(*given: Any) -> None:
        resuming.start()
        resuming.join(0.05)
        stop(*given)

    monkeypatch.setattr(bench.process, "stop", slowly)
    bench.weave.stop()
    resuming.join(20)
    assert bench.process.launched
    assert bench.process.settings.password == "secret"


def test_who_joined_peers_of_another_range_is_warned(bench: ServiceBench) -> None:
    bench.launch()
    bench.process.settings = None
    assert bench.weave.status()["Warnings"] == []
    bench.process.do = lambda verb: {
        "overlay": {"ipam": {"range": "10.40.0.0/16"}}, "process": {}
    }  # fmt: skip
    (warning,) = bench.weave.status()["Warnings"]
    assert "10.40.0.0/16" in warning
    assert "--ipalloc-range 10.40.0.0/16" in warning


def test_a_reset_takes_containers_off_the_network_and_removes_it(bench: ServiceBench) -> None:
    bench.launch()
    c = bench.containers.start("web")
    bench.weave.attach(AttachRequest(container="web"))
    assert bench.weave.reset() == ["web"]
    assert bench.names() == []
    assert c.networks == {}
    assert not bench.process.launched
    assert bench.weave.reset() == []


def test_a_reset_gives_addresses_away_and_containers_leave_in_order(
    bench: ServiceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.launch()
    c = bench.containers.start("web")
    bench.containers.start("l1")
    bench.containers.connect("l1", bench.network("lane", "10.40.0.0/16"), EndpointSettings())
    bench.weave.attach(AttachRequest(container="web"))
    reset = bench.process.reset

    def gives_away(*given: Any) -> None:
        for address, ident in bench.process.held.items():
            bench.weave._on_event({"event": "address lost", "ident": ident, "address": address})
        reset(*given)

    monkeypatch.setattr(bench.process, "reset", gives_away)
    assert bench.weave.reset() == ["web"]
    assert c.networks == {}
    assert [e.owner_name for e in bench.net.endpoints()] == ["l1"]
    bench.launch()
    assert bench.weave.attach(AttachRequest(container="web"))


def test_a_reset_takes_off_who_was_being_attached_or_removed(
    bench: ServiceBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK", 0.0)
    bench.launch()
    for name in ("going", "web"):
        bench.containers.start(name)
    late = bench.containers.start("late")
    bench.weave.attach(AttachRequest(container="web"))
    bench.weave.attach(AttachRequest(container="going"))
    lane, joins = bench.net.find("weave"), iter([True])
    remove, disconnect = bench.net.remove, bench.containers.disconnect

    def beside(ref: str) -> object:
        if next(joins, False):
            bench.containers.connect(late.id, lane.id, EndpointSettings())
        return remove(ref)

    def leaves(ref: str, network: str, *, force: bool) -> None:
        if bench.containers.find(ref).name == "going":
            bench.net.disconnect(ref, network)
            raise Conflict("it is marked for removal")
        disconnect(ref, network, force=force)

    monkeypatch.setattr(bench.net, "remove", beside)
    monkeypatch.setattr(bench.containers, "disconnect", leaves)
    assert bench.weave.reset() == ["late", "web"]
    assert bench.names() == []


def test_a_stop_is_nothing_to_warn_of(
    bench: ServiceBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.launch()
    bench.weave.stop()
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == []


def test_a_prune_leaves_the_network_while_the_overlay_is_launched(bench: ServiceBench) -> None:
    bench.launch()
    bench.network("lane", "10.90.0.0/24")
    networks = NetworksService(bench.net, cast(Events, Emitted()))
    networks.kept = bench.weave.keeps
    assert networks.prune({}).names == ["lane"]
    bench.weave.stop()
    assert networks.prune({}).names == ["weave"]


def test_a_container_gets_addresses_and_loses_them(bench: ServiceBench) -> None:
    bench.launch()
    c = bench.containers.start("web")
    assert bench.weave.attach(AttachRequest(container="web")) == ["10.32.0.1/12"]
    assert bench.weave.attach(AttachRequest(container="web")) == ["10.32.0.1/12"]
    more = AttachRequest(container=c.id, addresses=["ip:192.168.1.2/24", "net:10.40.0.0/16"])
    assert bench.weave.attach(more) == ["192.168.1.2/24", "10.40.0.1/16"]
    (row,) = bench.weave.ps()
    assert row["Addresses"] == ["10.32.0.1/12", "192.168.1.2/24", "10.40.0.1/16"]
    assert (row["Container"], row["Name"], row["Network"]) == (c.id, "web", "weave")
    (endpoint,) = bench.process.endpoints.values()
    assert endpoint.addresses == ("10.32.0.1", "192.168.1.2", "10.40.0.1")
    lost = DetachRequest(container="web", addresses=["net:default", "192.168.1.2/24"])
    assert bench.weave.detach(lost) == ["10.32.0.1/12", "192.168.1.2/24"]
    assert bench.weave.ps()[0]["Addresses"] == ["10.40.0.1/16"]
    with pytest.raises(NotFound, match=r"web has no address 192\.168\.1\.2/24"):
        bench.weave.detach(lost)
    assert bench.weave.detach(DetachRequest(container="web")) == ["10.40.0.1/16"]
    assert bench.weave.ps() == []
    assert c.networks == {}
    with pytest.raises(NotFound, match="web is not on network weave"):
        bench.weave.detach(DetachRequest(container="web"))


def test_an_address_in_another_network_s_subnet_is_warned_of(bench: ServiceBench) -> None:
    bench.launch()
    bench.network("lane", "10.40.0.0/16")
    bench.network("far", "192.168.7.0/24")
    warn = bench.weave.address_warnings
    assert warn(["10.40.0.5/12", "ip:192.168.7.9/24", "10.41.0.1/12", "net:10.40.0.0/16"]) == [
        "address 10.40.0.5 is in the subnet 10.40.0.0/16 of network lane: who is on both networks "
        "may look for it there",
        "address 192.168.7.9 is in the subnet 192.168.7.0/24 of network far: who is on both "
        "networks may look for it there",
    ]
    requests, lane = parse(["10.40.0.5/16"]), bench.net.find("lane")
    assert in_other_subnets(requests, lane, bench.net.all()) == []


def test_who_cannot_be_attached(bench: ServiceBench) -> None:
    with pytest.raises(NotFound, match="netkit weave launch"):
        bench.weave.attach(AttachRequest(container="web"))
    bench.launch()
    with pytest.raises(NotFound, match="No such container: web"):
        bench.weave.attach(AttachRequest(container="web"))
    bench.containers.start("web").state.status = "exited"
    with pytest.raises(Conflict, match="is not running"):
        bench.weave.attach(AttachRequest(container="web"))
    with pytest.raises(InvalidSpec, match="no prefix length"):
        bench.weave.attach(AttachRequest(container="web", addresses=["10.32.0.1"]))


def test_names_and_interface_of_who_is_attached(bench: ServiceBench) -> None:
    bench.launch()
    bench.containers.start("web")
    bench.weave.attach(AttachRequest(container="web", names=["shop"]))
    (record,) = bench.net.endpoints()
    assert (record.ifname, record.spec.names[:2]) == ("ethwe", ("web", "shop"))
    bench.weave.detach(DetachRequest(container="web"))
    bench.weave.attach(AttachRequest(container="web", without_dns=True))
    (record,) = bench.net.endpoints()
    assert record.spec.names == ()


def test_the_host_is_on_the_network_from_expose_to_hide(bench: ServiceBench) -> None:
    bench.launch()
    assert bench.weave.expose(ExposeRequest(names=["h1"])) == ["10.32.0.1/12"]
    assert bench.weave.expose(ExposeRequest()) == ["10.32.0.1/12"]
    assert bench.process.held == {"10.32.0.1": f"weave:expose:{bench.net.all()[0].id[:12]}"}
    assert bench.process_names == [("h1", "10.32.0.1", "weave:expose")]
    (row,) = bench.weave.ps()
    assert (row["Container"], row["Addresses"]) == ("weave:expose", ["10.32.0.1/12"])
    more = ExposeRequest(
        addresses=["10.32.0.9/12", "ip:192.168.1.250/24"], without_masquerade=True
    )
    assert bench.weave.expose(more) == ["10.32.0.9/12", "192.168.1.250/24"]
    assert list(bench.process.held) == ["10.32.0.1", "10.32.0.9"]
    assert bench.weave.ps()[0]["Addresses"] == [
        "10.32.0.1/12", "10.32.0.9/12", "192.168.1.250/24"
    ]  # fmt: skip
    (endpoint,) = bench.process.endpoints.values()
    assert endpoint.addresses == ("10.32.0.1", "10.32.0.9", "192.168.1.250")
    options = bench.net.all()[0].spec.options
    assert (options["expose"], options["masquerade"]) == ("true", "false")
    with pytest.raises(NotFound, match=r"no address 10\.32\.0\.8/12"):
        bench.weave.hide(HideRequest(addresses=["10.32.0.8/12"]))
    assert bench.weave.hide(HideRequest(addresses=["10.32.0.1/12"])) == ["10.32.0.1/12"]
    assert bench.weave.ps()[0]["Addresses"] == ["10.32.0.9/12", "192.168.1.250/24"]
    assert list(bench.process.held) == ["10.32.0.9"]
    assert bench.weave.hide(HideRequest()) == ["10.32.0.9/12", "192.168.1.250/24"]
    assert bench.process.held == {}
    assert bench.weave.hide(HideRequest()) == []
    assert bench.weave.ps() == []


def test_the_host_may_have_an_address_of_any_subnet(bench: ServiceBench) -> None:
    bench.launch()
    assert bench.weave.expose(ExposeRequest(addresses=["192.168.1.250/24"])) == [
        "192.168.1.250/24"
    ]
    assert bench.net.all()[0].spec.options["expose"] == "false", "it is no gateway by that"
    bench.containers.start("web")
    with pytest.raises(InUse, match=r"192\.168\.1\.250"):
        bench.weave.attach(AttachRequest(container="web", addresses=["192.168.1.250/24"]))
    bench.weave.hide(HideRequest(addresses=["192.168.1.250/24"]))
    taken = AttachRequest(container="web", addresses=["192.168.1.250/24"])
    assert bench.weave.attach(taken) == ["192.168.1.250/24"]
    with pytest.raises(InUse, match=r"192\.168\.1\.250 is held by container web"):
        bench.weave.expose(ExposeRequest(addresses=["10.32.0.1/12", "192.168.1.250/24"]))
    assert bench.weave.ps()[0]["Container"] != "weave:expose"
    assert bench.following.settle()
    assert bench.process.held == {}


def test_a_host_that_cannot_be_exposed_holds_no_address(bench: ServiceBench) -> None:
    bench.launch()
    bench.containers.start("web")
    bench.weave.attach(AttachRequest(container="web", addresses=["10.32.0.9/12"]))
    with pytest.raises(NetkitError, match="in use"):
        bench.weave.expose(ExposeRequest(addresses=["10.32.0.9/12"]))
    assert bench.following.settle()
    assert len(bench.process.held) == 1


def test_names_of_containers_and_of_others(bench: ServiceBench) -> None:
    bench.launch()
    c = bench.containers.start("web")
    with pytest.raises(NotFound, match="web has no address on network weave"):
        bench.weave.add_name(DnsRequest(container="web"))
    bench.weave.attach(AttachRequest(container="web"))
    bench.weave.add_name(DnsRequest(container="web"))
    bench.weave.add_name(DnsRequest(container="web", name="shop", addresses=["10.32.0.1"]))
    bench.weave.add_name(DnsRequest(name="far", addresses=["ip:192.0.2.1/24"]))
    assert bench.process_names == [
        ("web", "10.32.0.1", c.id), ("shop", "10.32.0.1", c.id),
        ("far", "192.0.2.1", "weave:extern"),
    ]  # fmt: skip
    bench.weave.remove_name(DnsRequest(container="web"))
    (removed,) = bench.process.of(verbs.DnsRemove)
    assert (removed.container, removed.name) == (c.id, "")
    for bad in (DnsRequest(), DnsRequest(name="x"), DnsRequest(addresses=["10.0.0.1"])):
        with pytest.raises(InvalidSpec):
            bench.weave.add_name(bad)
    with pytest.raises(InvalidSpec, match="invalid address 'x'"):
        bench.weave.add_name(DnsRequest(name="a", addresses=["x"]))
    with pytest.raises(InvalidSpec):
        bench.weave.remove_name(DnsRequest())
    with pytest.raises(NotFound):
        bench.weave.add_name(DnsRequest(container="web", network="nosuch"))
    assert bench.weave.lookup("web") == {"Addresses": ["web"]}
    assert bench.weave.lookup("10.32.0.1") == {"Names": ["10.32.0.1"]}


def test_another_mtu_than_the_network_s_is_refused(bench: ServiceBench) -> None:
    bench.launch(mtu=1300)
    bench.weave.stop()
    with pytest.raises(Conflict, match="network weave has the MTU 1300: netkit weave reset"):
        bench.launch(mtu=1200)
    bench.launch(mtu=1300)
    bench.weave.stop()
    bench.launch()
    assert bench.net.find("weave").spec.options["mtu"] == "1300"


def test_a_full_name_says_which_network_it_is_of(bench: ServiceBench) -> None:
    bench.launch()
    lane = bench.network("Lane", "10.40.0.0/16")
    c = bench.containers.start("l1")
    bench.containers.connect("l1", lane, EndpointSettings())
    bench.weave.add_name(DnsRequest(container="l1", name="Foo.lane.weave.local."))
    (made,) = bench.process.of(verbs.DnsAdd)
    assert (made.network, made.addresses, made.container) == (lane, ("10.40.0.1",), c.id)
    bench.weave.remove_name(DnsRequest(name="foo.lane.weave.local"))
    assert bench.process.of(verbs.DnsRemove)[0].network == lane
    weave = bench.net.find("weave").id
    # Where no network is called so, the name has a dot in it: "www.shop".
    for name in ("far.weave.local", "a.b", "far.weave.weave.local", "www.shop.weave.local"):
        bench.weave.add_name(DnsRequest(name=name, addresses=["192.0.2.1"]))
        assert bench.process.of(verbs.DnsAdd)[-1].network == weave


def test_an_address_that_another_host_has_by_now_is_taken_away(bench: ServiceBench) -> None:
    bench.launch()
    bench.containers.start("web")
    bench.weave.attach(AttachRequest(container="web"))
    (ident,) = bench.process.held.values()
    bench.weave._on_event({"event": "address lost", "ident": ident, "address": "10.32.0.1"})
    assert bench.net.endpoints() == []
    bench.process.elsewhere.add("10.32.0.1")
    del bench.process.held["10.32.0.1"]
    assert bench.weave.attach(AttachRequest(container="web")) == ["10.32.0.2/12"]


def test_a_network_of_another_driver_has_the_name(bench: ServiceBench) -> None:
    class Other(OverlayNetworks):
        driver = "lane"  # type: ignore[assignment]

    bench.net.create(NetworkSpec(name="lane", driver="weave"))
    bench.weave._host = Other(bench.net._parts, {}, lambda endpoint: None)
    with pytest.raises(Conflict, match="network lane of the driver weave: remove it first"):
        bench.launch()


def test_whatever_a_launch_takes_the_process_reads(bench: ServiceBench, tmp_path: Path) -> None:
    bench.launch(
        password="p" * 253, nickname="n" * 63, trusted_subnets=["10.0.0.0/8"] * 8,
        peers=[f"192.0.2.1:{n + 1}" for n in range(256)], advertise=["192.0.2.9"] * 8,
    )  # fmt: skip
    folders = Folders(tmp_path / "state", tmp_path / "run")
    folders.write(bench.process.settings)
    assert folders.read() == bench.process.settings


def test_peers_are_taken_over(bench: ServiceBench) -> None:
    bench.launch()
    assert bench.weave.rmpeer("h2") == {
        "Addresses": 4096, "Text": "4096 IPs taken over from h2"
    }  # fmt: skip
    with pytest.raises(InvalidSpec):
        bench.weave.rmpeer("")
    for peers in ([], ["x" * 254], [""], ["h1"] * 257):
        with pytest.raises(InvalidSpec):
            bench.weave.forget(peers)


def test_bytes_and_infinity_are_shown_as_json_has_them() -> None:
    found = shown({"ledger": b"\xab", "waiting": [{"ident": b"c1"}], "left": float("inf")})
    assert found == {"ledger": "ab", "waiting": [{"ident": "c1"}], "left": None}


def test_a_password_is_shown_nowhere(bench: ServiceBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    status = bench.launch(password="correct horse")
    assert "correct horse" not in str(status) + str(bench.weave.report()) + caplog.text
    assert "correct horse" not in repr(bench.process.settings)
    assert "correct horse" not in repr(LaunchRequest(password="correct horse"))
