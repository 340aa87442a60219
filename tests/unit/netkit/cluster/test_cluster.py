"""Transactions of a cluster: concurrent, on stale copies, or run twice."""

from __future__ import annotations

from collections import Counter
from functools import partial
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netkit.cluster import remotes, transactions
from netkit.cluster.standing import parsed
from netkit.cluster.state import Held, Member, Own, Shared
from netkit.driver import Endpoint, Network, RemoteEndpoint, Subnet
from netkit.errors import AlreadyExists, Conflict, Forbidden, InUse, InvalidSpec, NotFound
from netkit.network.remote import RemoteContainer, RemoteState
from netkit.spec import NetworkRecord, NetworkSpec, SubnetSpec
from plugins.ovs import Ovs
from tests.unit.netkit.cluster.fake_ovsdb import Idl, Server

SUBNET = Subnet(cidr=IPv4Network("10.9.0.0/29"), gateway=IPv4Address("10.9.0.1"))
HOSTS = [Member(id=f"e{n}", name=f"h{n}", address=f"10.0.0.{n}") for n in (1, 2, 3)]


def network(name: str = "wide", subnet: str = "10.9.0.0/29") -> NetworkRecord:
    spec = NetworkSpec(
        name=name, driver="ovs", scope="global", subnets=(SubnetSpec(subnet=subnet),)
    )
    return NetworkRecord(id=name.encode().hex().ljust(64, "0"), spec=spec, created="now")


WIDE = network()


def create(record: NetworkRecord = WIDE, subnet: Subnet = SUBNET) -> transactions.Copy:
    return partial(transactions.create, record, [subnet])


def take(host: int, holder: str, ip: str = "") -> transactions.Take:
    return transactions.Take(WIDE, SUBNET, HOSTS[host].id, holder, holder, ip)


def settle(
    host: int, *held: Held, endpoints: tuple[RemoteContainer, ...] = (), busy: str = ""
) -> object:
    own = Own(
        held=frozenset(held),
        endpoints={e.id: e for e in endpoints},
        busy=frozenset({(WIDE.id, busy)} if busy else ()),
    )
    return transactions.Settle(HOSTS[host], lambda: own)


def held(address: str, holder: str) -> Held:
    return Held(network=WIDE.id, address=address, holder=holder, owner=holder)


def neighbour(id: str, host: int, address: str, mac: str) -> RemoteContainer:
    at = HOSTS[host]
    return RemoteContainer(
        id=id, network=WIDE.id, host=at.id, host_address=at.address, sandbox=f"s{id}", owner=id,
        address=address, mac=mac, names=(id,),
    )  # fmt: skip


@pytest.fixture
def server() -> Server:
    made = Server()
    for n in range(len(HOSTS)):
        made.run(settle(n))  # type: ignore[arg-type]
    made.run(create())
    return made


def addresses(server: Server) -> dict[str, str]:
    return {r["address"]: r["holder"] for r in server.rows["Address"].values() if r["host"]}


# networks


def test_a_network_is_for_all_and_its_creation_may_be_repeated(server: Server) -> None:
    before = server.writes
    server.run(create())
    assert server.writes == before
    assert transactions.shared(server.copy()).networks == {WIDE.id: WIDE}


def test_names_and_subnets_are_once_in_a_cluster(server: Server) -> None:
    with pytest.raises(AlreadyExists, match="network with name wide already exists in the clust"):
        server.run(create(msgspec.structs.replace(network(), id="f" * 64)))
    with pytest.raises(Forbidden, match="overlaps"):
        server.run(create(network("other")))


def test_two_that_overlap_cannot_be_created_at_the_same_time(server: Server) -> None:
    """No index makes them conflict: the counter makes the later one look again."""
    one, two = network("one", "10.8.0.0/24"), network("two", "10.8.0.0/25")
    stale = server.copy()
    server.run(create(one, Subnet(cidr=IPv4Network("10.8.0.0/24"))))
    with pytest.raises(Forbidden, match="overlaps"):
        server.run(create(two, Subnet(cidr=IPv4Network("10.8.0.0/25"))), stale)


def test_a_network_stays_while_a_container_is_on_it(server: Server) -> None:
    server.run(take(1, "web"))
    with pytest.raises(Forbidden, match=r"network wide has active endpoints \(web on h2 \(10.0.0"):
        server.run(partial(transactions.remove, WIDE.id))
    server.run(settle(1))  # type: ignore[arg-type]
    server.run(partial(transactions.remove, WIDE.id))
    server.run(partial(transactions.remove, WIDE.id))  # repeated
    assert server.rows["Network"] == server.rows["Address"] == {}


def test_who_comes_while_a_network_is_removed_is_refused_or_keeps_it(server: Server) -> None:
    stale = server.copy()
    server.run(partial(transactions.remove, WIDE.id))
    with pytest.raises(NotFound):
        server.run(take(0, "late"), stale)
    server.run(create())
    stale = server.copy()
    server.run(take(0, "early"))
    with pytest.raises(Forbidden, match="early"):
        server.run(partial(transactions.remove, WIDE.id), stale)


# addresses


def test_the_lowest_free_address_that_is_nobodys(server: Server) -> None:
    for n, expected in enumerate(("10.9.0.2", "10.9.0.3", "10.9.0.4")):
        taking = take(n % 3, f"c{n}")
        server.run(taking)
        assert str(taking.given) == expected
    for n in range(2):
        server.run(take(0, f"last{n}"))
    with pytest.raises(Conflict, match="no available IPv4 addresses on this network's address poo"):
        server.run(take(0, "too many"))


def test_a_stale_copy_costs_another_try_and_no_address(server: Server) -> None:
    stale = server.copy()
    server.run(take(0, "first"))
    second = take(1, "second")
    server.run(second, stale)
    assert addresses(server) == {"10.9.0.2": "first", "10.9.0.3": "second"}
    assert str(second.given) == "10.9.0.3"


def test_taking_twice_is_taking_once(server: Server) -> None:
    first, again = take(0, "web"), take(0, "web")
    server.run(first)
    server.run(again)
    assert first.given == again.given
    assert len(addresses(server)) == 1


def test_a_chosen_address_is_refused_with_its_holder(server: Server) -> None:
    server.run(take(2, "web", "10.9.0.5"))
    server.run(take(2, "web", "10.9.0.5"))
    with pytest.raises(InUse, match=r"10.9.0.5 is held by container web on h3 \(10.0.0.3\)"):
        server.run(take(0, "db", "10.9.0.5"))
    with pytest.raises(InUse, match=r"10.9.0.1 is held by the network"):
        server.run(take(0, "db", "10.9.0.1"))


# a host and its rows


def test_rows_follow_the_local_database_and_spare_those_about_to_be_in_it(server: Server) -> None:
    for holder in ("stays", "goes", "comes"):
        server.run(take(0, holder))
    server.run(take(1, "other"))
    server.run(settle(0, held("10.9.0.2", "stays"), busy="comes"))  # type: ignore[arg-type]
    assert addresses(server) == {"10.9.0.2": "stays", "10.9.0.4": "comes", "10.9.0.5": "other"}


def test_nothing_is_written_where_nothing_is_new(server: Server) -> None:
    web = neighbour("a", 0, "10.9.0.2", "02:00:00:00:00:02")
    same = settle(0, held("10.9.0.2", "sa"), endpoints=(web,))
    server.run(same)  # type: ignore[arg-type]
    before = server.writes
    server.run(same)  # type: ignore[arg-type]
    assert server.writes == before
    assert transactions.shared(server.copy()).endpoints == (web,)


def test_a_host_that_was_let_go_gets_back_what_is_still_free(server: Server) -> None:
    server.run(take(0, "one"))
    server.run(take(0, "two"))
    server.run(partial(transactions.forget, HOSTS[0].id))
    assert addresses(server) == {}
    server.run(take(1, "faster"))
    back = settle(0, held("10.9.0.2", "one"), held("10.9.0.3", "two"))
    server.run(back)  # type: ignore[arg-type]
    assert isinstance(back, transactions.Settle)
    assert [h.holder for h in back.lost] == ["one"]
    assert addresses(server) == {"10.9.0.2": "faster", "10.9.0.3": "two"}


def test_two_hosts_with_one_address_are_reported(server: Server) -> None:
    twin = transactions.Settle(Member(id="e9", name="new", address="10.0.0.2"), Own)
    with pytest.raises(Conflict, match=r"has the address 10.0.0.2: h2 \(engine e2\).*leave e2"):
        server.run(twin)


class Hosts(RuleBasedStateMachine):
    """Containers come and go on three hosts, whose copies are as stale as possible."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        for n in range(3):
            self.server.run(settle(n))  # type: ignore[arg-type]
        self.server.run(create())
        self.copies: dict[int, Idl] = {}
        self.recorded: list[dict[str, str]] = [{}, {}, {}]  # holder to address
        self.number = 0

    def stale(self, host: int) -> Idl | None:
        return self.copies.pop(host, None)

    @rule(host=st.integers(0, 2))
    def falls_behind(self, host: int) -> None:
        self.copies.setdefault(host, self.server.copy())

    @rule(host=st.integers(0, 2), reply_lost=st.booleans(), killed=st.booleans())
    def comes(self, host: int, reply_lost: bool, killed: bool) -> None:
        self.number += 1
        holder = f"c{self.number}"
        taking = take(host, holder)
        stale = self.stale(host)
        try:
            self.server.run(taking, stale)
        except Conflict:
            if stale is not None:
                return  # it was full
            everybody = sum(len(b) for b in self.recorded)
            assert everybody + len(self.orphans()) == 5  # it is full, indeed
            return
        if reply_lost:
            self.server.run(taking)
        if not killed:
            self.recorded[host][holder] = str(taking.given)

    @rule(host=st.integers(0, 2))
    def goes(self, host: int) -> None:
        if self.recorded[host]:
            self.recorded[host].popitem()

    @rule(host=st.integers(0, 2))
    def settles(self, host: int) -> None:
        recorded_here = self.recorded[host]
        settling = settle(host, *(held(a, h) for h, a in recorded_here.items()))
        self.server.run(settling, self.stale(host))  # type: ignore[arg-type]
        assert isinstance(settling, transactions.Settle)
        assert settling.lost == ()
        assert not [h for h in self.orphans() if self.host_of(h) == HOSTS[host].id]

    @rule(host=st.integers(0, 2))
    def is_let_go_and_all_its_containers_end(self, host: int) -> None:
        self.server.run(partial(transactions.forget, HOSTS[host].id), self.stale(host))
        self.recorded[host] = {}
        self.server.run(settle(host))  # type: ignore[arg-type]

    def orphans(self) -> set[str]:
        return {*addresses(self.server).values()} - {h for b in self.recorded for h in b}

    def host_of(self, holder: str) -> str:
        shared = self.server.copy()
        rows = shared.tables["Address"].rows.values()
        return next(r.host[0].id for r in rows if r.holder == holder)

    @invariant()
    def no_two_hosts_share_an_address(self) -> None:
        given = Counter(a for b in self.recorded for a in b.values())
        assert all(n == 1 for n in given.values())

    @invariant()
    def what_a_host_recorded_is_in_the_cluster(self) -> None:
        there = addresses(self.server)
        assert all(there.get(a) == h for b in self.recorded for h, a in b.items())


TestHosts = pytest.mark.slow(Hosts.TestCase)
TestHosts.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# around a host


def test_what_a_host_has_to_know_of_its_peers() -> None:
    mine, theirs = (neighbour(x, n, f"10.9.0.{n + 2}", f"02::{n}") for x, n in (("a", 0), ("b", 1)))
    shared = Shared(members={m.id: m for m in HOSTS}, endpoints=(mine, theirs))
    around = shared.around(WIDE.id, "e1")
    assert around == RemoteState(peers=("10.0.0.2", "10.0.0.3"), neighbours=(theirs,))
    assert [str(k.address) for k in around.known()] == ["10.9.0.3"]
    assert shared.around("another", "e1").neighbours == ()


def test_flows_answer_for_known_containers_and_send_to_one_tunnel() -> None:
    driver = Ovs()
    peer, address = IPv4Address("10.0.0.2"), IPv4Address("10.9.0.3")
    net = Network(
        id="ab" * 32, name="wide", driver="ovs", subnets=(SUBNET,), options=driver.parse({}),
        shared=True, peers=(peer,),
        remote_endpoints=(RemoteEndpoint(address=address, mac="02:00:00:00:00:03", peer=peer),),
    )  # fmt: skip
    groups = {r.name: r.flows for r in driver.network(net) if r.key[0] == "ovsflows"}  # type: ignore[attr-defined]
    unicast, answer = groups["known 10.0.0.2"]
    ours = "reg0=0,"  # of containers here: a tunnel never leads into a tunnel
    out = "dl_dst=02:00:00:00:00:03,actions=output:g0a000002ababab"
    assert unicast == f"table=1,priority=20,{ours}{out}"
    question = "arp,arp_op=1,arp_tpa=10.9.0.3,actions=move:"
    assert answer.startswith(f"table=1,priority=21,{ours}{question}")
    assert "load:0x020000000003->NXM_NX_ARP_SHA[],load:0x0a090003->NXM_OF_ARP_SPA[]" in answer
    arrived = "load:1->NXM_NX_REG0[],resubmit(,1)"
    assert f"priority=100,in_port=g0a000002ababab,actions={arrived}" in groups["network"]
    ep = Endpoint(
        id="cd" * 32, network=net.id, addresses=(), mac="02:00:00:00:00:09", ns="/n", ifname="eth0"
    )
    own = next(r for r in driver.endpoint(net, ep) if r.key[0] == "ovsflows")
    assert "table=1,priority=20,dl_dst=02:00:00:00:00:09" in "".join(own.flows)  # type: ignore[attr-defined]


# servers

LEADER = """\
Name: Netkit
Server ID: 3702 (370269e8-13bc-4800-acb7-11b4d4798782)
Address: tcp:10.0.0.1:6644
Status: cluster member
Role: leader
Leader: self
Servers:
    3702 (3702 at tcp:10.0.0.1:6644) (self) next_index=2 match_index=4
    e0bb (e0bb at tcp:10.0.0.2:6644) next_index=5 match_index=4 last msg 115 ms ago
"""


@pytest.mark.parametrize(
    ("named", "leader", "role"),
    [
        ("self", "10.0.0.1", "leader"),
        ("e0bb", "10.0.0.2", "follower"),
        ("unknown", "", "candidate"),
    ],
)
def test_what_a_server_says_of_its_cluster(named: str, leader: str, role: str) -> None:
    status = parsed(LEADER.replace("self\n", f"{named}\n").replace(": leader", f": {role}"))
    assert (status.leader, status.role) == (leader, role)
    assert status.servers == ("10.0.0.1", "10.0.0.2")


def test_where_servers_are() -> None:
    assert remotes.parse("ovsdb:tcp:10.0.0.1:6640,tcp:10.0.0.2:1").count("tcp:") == 2
    assert remotes.parse("ovsdb:ssl:10.0.0.1:6640", tls=True) == "ssl:10.0.0.1:6640"


@pytest.mark.parametrize(
    "text",
    ["tcp:10.0.0.1:6640", "ovsdb:", "ovsdb:10.0.0.1:6640", "ovsdb:tcp:10.0.0.1", "ovsdb:tcp:h1:1",
     "ovsdb:udp:10.0.0.1:1", "etcd:x"],
)  # fmt: skip
def test_what_names_no_servers_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="use ovsdb:tcp:IP:PORT"):
        remotes.parse(text)


@pytest.mark.parametrize(
    ("text", "tls", "words"),
    [
        ("ovsdb:ssl:10.0.0.1:1", False, r"must be tcp:10\.0\.0\.1:1, because .* are missing"),
        ("ovsdb:tcp:10.0.0.1:1", True, r"must be ssl:10\.0\.0\.1:1, because .* are given"),
        ("ovsdb:ssl:10.0.0.1:1,tcp:10.0.0.2:1", True, r"tcp:10\.0\.0\.2:1 must be ssl:10"),
    ],
)
def test_servers_are_all_tls_or_none(text: str, tls: bool, words: str) -> None:
    with pytest.raises(InvalidSpec, match=words):
        remotes.parse(text, tls=tls)


@pytest.mark.parametrize("text", ["h1", "::1", "0.0.0.0", "224.0.0.1"])
def test_an_address_of_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        remotes.own_address(text)
