"""nf_tables through the adapter: scope, order, atomicity, and foreign objects."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from netkit.driver import Network, Subnet, TrafficPolicy
from netkit.errors import Conflict, KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import nft_compat
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.nftables import run
from netkit.kernel.nftables.run import Nft
from netkit.model import Resource, state
from netkit.model.nftables import Hook, NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.reconcile.converge import Change, converge, ownership
from netkit.reconcile.plan import Op
from plugins.firewall.nftables import Nftables
from tests.netns.conftest import NET, Lab

pytestmark = pytest.mark.root
Ran = tuple[bool, str, str]
SOCKET = ("ipv4_addr", "inet_proto", "inet_service")
MANY = 10_000


def frame() -> list[Resource]:
    hook = Hook(kind="filter", point="forward", priority=0)
    sets = {
        "ports": (SOCKET, ("ipv4_addr", "inet_service"), False),
        "spans": (SOCKET, (), True),
        "home": (("ipv4_addr", "ifname"), (), True),
        "links": (("ifname", "ifname"), ("verdict",), False),
    }
    return [
        NftTable(name="netkit", owner=NET),
        NftChain(table="netkit", name="forward", hook=hook, owner=NET),
        NftChain(table="netkit", name="side", owner=NET),
        *(
            NftSet(table="netkit", name=name, fields=fields, data=data, ranges=ranges, owner=NET)
            for name, (fields, data, ranges) in sets.items()
        ),
    ]


def rule(text: str, rank: int = 0, chain: str = "forward") -> NftRule:
    return NftRule(table="netkit", chain=chain, expression=text, rank=rank, owner=NET)


def element(name: str, *at: str, value: tuple[str, ...] = (), owner: str = NET) -> NftElement:
    return NftElement(table="netkit", set=name, key_fields=at, value=value, owner=owner)


def published(n: int, *ports: int) -> list[Resource]:
    """Return the elements of published ports of container n."""
    owner, inside = f"{NET}:{n:012x}", str(IPv4Address("10.1.0.0") + n)
    return [
        r
        for port in ports
        for r in (
            element("ports", inside, "tcp", str(port), value=("10.9.0.1", "80"), owner=owner),
            element("spans", inside, "tcp", f"{port * 10}-{port * 10 + 5}", owner=owner),
        )
    ]


def generation(lab: Lab) -> int:
    with netns.inside(lab.home), Netlink(nft_compat.NETLINK_NETFILTER) as netlink:
        return nft_compat.generation(netlink)


def texts(lab: Lab, chain: str = "forward") -> list[str]:
    out = lab.run("nft", "-s", "list", "chain", "ip", "netkit", chain).splitlines()
    return [line.split(" comment ")[0].strip() for line in out if "ip daddr" in line]


def test_what_is_made_reads_as_people_write_it(lab: Lab) -> None:
    lab.make(
        lab.host(),
        *frame(),
        element("ports", "192.0.2.1", "sctp", "80", value=("172.18.0.2", "8080")),
        element("spans", "0.0.0.0/0", "0-255", "1000-2000"),
        element("spans", "10.0.0.1-10.0.0.9", "udp", "53"),
        element("home", "172.18.0.0/16", "br-0123456789ab"),
        element("links", "br0", "br0", value=("goto", "side")),
        element("links", "br*", "br-a.b", value=("drop",)),
        rule("ip saddr . iifname @home iifname . oifname vmap @links"),
    )
    digest = rule("ip saddr . iifname @home iifname . oifname vmap @links").digest
    assert words(lab.run("nft", "list", "table", "ip", "netkit")) == words(f"""
        table ip netkit {{
            comment "{NET}"
            set home {{
                type ipv4_addr . ifname
                flags interval
                comment "{NET}"
                elements = {{ 172.18.0.0/16 . "br-0123456789ab" comment "{NET}" }}
            }}
            map links {{
                type ifname . ifname : verdict
                comment "{NET}"
                elements = {{ "br0" . "br0" comment "{NET}" : goto side,
                              "br*" . "br-a.b" comment "{NET}" : drop }}
            }}
            map ports {{
                type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
                comment "{NET}"
                elements = {{ 192.0.2.1 . sctp . 80 comment "{NET}" : 172.18.0.2 . 8080 }}
            }}
            set spans {{
                type ipv4_addr . inet_proto . inet_service
                flags interval
                comment "{NET}"
                elements = {{ 0.0.0.0/0 . 0-255 . 1000-2000 comment "{NET}",
                              10.0.0.1-10.0.0.9 . udp . 53 comment "{NET}" }}
            }}
            chain forward {{
                comment "{NET}"
                type filter hook forward priority filter; policy accept;
                ip saddr . iifname @home iifname . oifname vmap @links comment "{NET} {digest}"
            }}
            chain side {{
                comment "{NET}"
            }}
        }}""")


def words(text: str) -> list[str]:
    """Without the order of elements, which the kernel chooses."""
    return sorted(text.replace(",", " ").split())


def test_one_container_costs_the_same_beside_ten_thousand(lab: Lab) -> None:
    """Cost is counted in requests to the kernel."""
    host = lab.host()
    lab.make(host, *frame())
    costs = []
    for n in (0, MANY):
        if n:
            lab.make(host, *[r for other in range(1, n) for r in published(other, 80)])
        mine = published(n + 1, 80, 81)
        before = (host.tally.requests, host.tally.answers)
        lab.make(host, *mine)
        lab.drop(host, *mine)
        costs.append((host.tally.requests - before[0], host.tally.answers - before[1]))
    assert costs[0] == costs[1]
    assert len(host.owned(NET)) == len(frame()) + 2 * (MANY - 1)


def test_all_of_a_change_is_one_commit(lab: Lab) -> None:
    host = lab.host()
    lab.make(host, *frame())
    at = generation(lab)
    lab.make(host, *[r for n in range(50) for r in published(n, 80, 81, 82)], rule("counter"))
    assert generation(lab) == at + 1
    lab.drop(host, *[r for n in range(50) for r in published(n, 80, 81, 82)], rule("counter"))
    assert generation(lab) == at + 2


def test_an_element_is_replaced_in_one_commit(lab: Lab) -> None:
    host = lab.host()
    old = element("ports", "10.1.0.1", "tcp", "80", value=("10.9.0.1", "80"), owner=f"{NET}:a")
    new = element("ports", "10.1.0.1", "tcp", "80", value=("10.9.0.2", "81"), owner=f"{NET}:b")
    spans = [element("spans", "10.1.0.1", "tcp", s) for s in ("100-200", "150-250")]
    lab.make(host, *frame(), old, spans[0])
    at = generation(lab)
    change = Change.of(state([new, spans[1]]), state([old, spans[0]]))
    converge(change, host, ownership("0", lab.folder))  # ranges that overlap, one after the other
    assert generation(lab) == at + 1
    seen = host.observe([new.key, spans[0].key, spans[1].key])
    assert seen == {new.key: new, spans[1].key: spans[1]}


def test_rules_stand_in_order_of_rank_whatever_the_order_of_their_making(lab: Lab) -> None:
    host = lab.host()
    desired = {n: rule(f"ip daddr 10.0.0.{10 + n} drop", n) for n in range(-4, 5)}
    lab.make(host, *frame(), desired[2], desired[-2])
    foreign = ("ip", "netkit", "forward", "ip", "daddr", "192.0.2.1", "accept")
    lab.run("nft", "add", "rule", *foreign)
    lab.make(host, desired[-4], desired[4], desired[0])
    lab.make(host, *desired.values())
    order = [int(t.split()[2].rsplit(".")[3]) - 10 for t in texts(lab) if "10.0.0" in t]
    assert order == list(range(-4, 5))
    assert "ip daddr 192.0.2.1 accept" in texts(lab)[4:]
    lab.drop(host, *desired.values())
    assert texts(lab) == ["ip daddr 192.0.2.1 accept"]


def test_a_rule_that_was_overtaken_or_doubled_is_repaired(lab: Lab) -> None:
    host = lab.host()
    desired = [rule("ip daddr 10.0.0.1 drop", -2), rule("ip daddr 10.0.0.2 drop", -1)]
    lab.make(host, *frame(), *desired)
    right = texts(lab)
    comment = f'"{NET} {desired[0].digest} -2"'
    for line in (
        "insert rule ip netkit forward ip daddr 192.0.2.1 accept",
        f"add rule ip netkit forward ip daddr 10.0.0.1 drop comment {comment}",
    ):
        lab.run("nft", "-f", "-", text=line + "\n")
        assert texts(lab) != right
        assert lab.make(host, *desired) != ()
        assert [t for t in texts(lab) if "10.0.0" in t] == right
        assert texts(lab)[:2] == right
        assert lab.make(host, *desired) == ()
    assert "ip daddr 192.0.2.1 accept" in texts(lab)


def some() -> list[Resource]:
    return [*frame(), *published(1, 80), rule("ip daddr 10.0.0.1 drop", -1),
            rule("counter accept", chain="side"),
            element("links", "br0", "br0", value=("goto", "side"))]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "flush ruleset",
        "delete table ip netkit",
        "flush chain ip netkit forward",
        "flush set ip netkit spans",
        "delete element ip netkit ports { 10.1.0.1 . tcp . 80 }",
        "delete element ip netkit links { br0 . br0 } ; delete chain ip netkit side",
        "add chain ip netkit forward { policy drop; }",
    ],
)
def test_what_another_tool_deleted_comes_back(lab: Lab, line: str) -> None:
    host = lab.host()
    lab.make(host, *some())
    whole = lab.run("nft", "-s", "list", "ruleset")
    lab.run("nft", *line.split())
    assert lab.make(host, *some()) != ()
    assert sorted(lab.run("nft", "-s", "list", "ruleset").split()) == sorted(whole.split())
    assert lab.make(host, *some()) == ()


@pytest.mark.parametrize("source", [None, IPv4Address("192.0.2.7")])
def test_networks_inside_of_one_s_subnet_are_translated_with_it(
    lab: Lab, source: IPv4Address | None
) -> None:
    """Whatever the order: elements of one set that overlap are refused."""
    firewall = Nftables()

    def made(name: str, cidr: str, *, around: bool = False) -> list[Resource]:
        net = Network(id=name * 16, name=name, driver="weave", options=None,
                      subnets=(Subnet(cidr=ip_network(cidr)),))  # fmt: skip
        policy = TrafficPolicy(link=name, source=source, around=around)
        every = firewall.network(net, policy)
        return [replace(r, owner=NET) for r in every if isinstance(r, NftElement)]

    outer = made("wide", "10.32.0.0/12", around=True)
    inner = [*made("lane", "10.40.0.0/16"), *made("edge", "10.32.0.0/24")]
    setup = [*firewall.setup(NET)]
    lab.make(lab.host(), *setup, *inner, *outer)
    found = lab.run("nft", "list", "table", "ip", "netkit")
    assert found.count("10.32.0.0/12 . 0.0.0.0/0") == found.count("10.40.0.0/16 . 0.0.0.0/0") == 1
    lab.run("nft", "delete", "table", "ip", "netkit")
    lab.make(lab.host(), *setup, *outer, *inner)


def test_a_table_of_that_name_that_is_not_ours_is_left_alone(lab: Lab) -> None:
    lab.run("nft", "add", "table", "ip", "netkit")
    lab.run("nft", "add", "chain", "ip", "netkit", "theirs")
    before = lab.run("nft", "list", "ruleset")
    with pytest.raises(Conflict, match="netkit"):
        lab.make(lab.host(), *some())
    assert lab.drop(lab.host(), *some()) == ()
    assert lab.run("nft", "list", "ruleset") == before
    assert lab.host().owned("netkit:") == {}


def test_elements_of_another_engine_are_neither_taken_over_nor_removed(lab: Lab) -> None:
    host = lab.host()
    lab.make(host, *frame())
    key = '10.1.0.1 . tcp . 80 comment "netkit:9:bbbbbbbbbbbb"'
    lab.run("nft", "-f", "-", text=f"add element ip netkit ports {{ {key} : 10.9.0.9 . 99 }}\n")
    with pytest.raises(Conflict):
        lab.make(host, *published(1, 80))
    assert lab.drop(host, *published(1, 80)) == ()
    assert "10.9.0.9 . 99" in lab.run("nft", "list", "map", "ip", "netkit", "ports")


STRAYS = """
add chain ip netkit lured { type filter hook forward priority -10; policy drop; }
add chain ip netkit lured2
add set ip netkit marks { type mark; }
add set ip netkit hosts { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
add rule ip netkit lured2 jump lured3
add rule ip netkit lured ip saddr @hosts counter jump lured2
insert rule ip netkit forward ip saddr 192.0.2.1 counter accept
add rule ip netkit side ip saddr @hosts jump lured2
add rule ip netkit side meta mark @marks accept comment "let in"
add element ip netkit ports { 10.1.0.7 . tcp . 80 : 10.9.0.9 . 99 }
add element ip netkit ports { 10.1.0.1 . tcp . 80 comment "mine" : 10.9.0.9 . 99 }
add element ip netkit links { * : goto lured2 }
add element ip netkit home { 10.0.0.0/8 . "br0" }
"""


def test_what_has_no_mark_in_a_table_of_ours_is_found_and_removed(lab: Lab) -> None:
    host = lab.host()
    made = [*frame(), rule("ip daddr 10.0.0.1 drop", -1), rule("drop", chain="side")]
    lab.make(host, *made)
    whole = lab.run("nft", "-s", "list", "ruleset")
    lab.run("nft", "-f", "-", text="add chain ip netkit lured3" + STRAYS)
    desired = state(made)
    found = {k: r for k, r in host.owned("netkit:0:", policy=True).items() if k not in desired}
    assert {r.owner for r in found.values()} == {"netkit:0:stray"}
    shown = sorted(map(str, found.values()))
    assert "nft rule ip netkit forward ip saddr 192.0.2.1 counter accept" in shown
    assert len(shown) == 12, shown
    converge(Change.of(desired, {**found, **desired}), host, ownership("0", lab.folder))
    assert lab.run("nft", "-s", "list", "ruleset") == whole
    lab.run("nft", "-f", "-", text="add chain ip netkit lured3" + STRAYS)
    lab.make(host, *published(1, 80))  # in the place of an element of another tool
    assert "10.9.0.1 . 80" in lab.run("nft", "list", "map", "ip", "netkit", "ports")


def test_a_sweep_that_fails_puts_back_rules_it_never_saw_before(lab: Lab) -> None:
    made = [*frame(), rule("ip daddr 10.0.0.1 tcp dport { 80, 443 } counter drop", -1)]
    lab.make(lab.host(), *made)
    whole = lab.run("nft", "-s", "list", "ruleset")
    host = lab.host()  # as after a restart
    owned = host.owned("netkit:")
    deletion = Op(owned[made[-1].key], None)
    host.apply([deletion])
    host.apply([deletion.inverse()])
    assert lab.run("nft", "-s", "list", "ruleset") == whole


def test_one_bad_step_leaves_nothing_and_is_named(lab: Lab) -> None:
    host = lab.host()
    lab.make(host, *frame())
    before = lab.run("nft", "list", "ruleset")
    bad = rule("ip daddr 10.0.0.1 nonsense")
    with pytest.raises(KernelError, match="nonsense") as e:
        host.apply([Op(None, r) for r in (*published(1, 80), bad, *published(2, 80))])
    assert e.value.done == 0
    lab.run("nft", "add", "element", "ip", "netkit", "spans", "{ 10.1.0.3 . tcp . 800-805 }")
    with pytest.raises(KernelError, match=r"File exists.*10\.1\.0\.3 \. tcp \. 800-805"):
        host.apply([Op(None, r) for n in range(1, 5) for r in published(n, 80)])
    lab.run("nft", "delete", "element", "ip", "netkit", "spans", "{ 10.1.0.3 . tcp . 800-805 }")
    assert lab.run("nft", "list", "ruleset") == before


@pytest.mark.parametrize(
    "bad",
    [
        element("ports", "10.0.0.1", "tcp", "80", value=("10.0.0.300", "80")),
        element("ports", "10.0.0.1", "tcp", "80 } ; flush ruleset", value=("10.0.0.1", "80")),
        element("links", 'a" . "b', "c", value=("accept",)),
        element("links", "br0", "br0", value=("goto", "side }; flush ruleset")),
        element("nosuch", "br0"),
        NftChain(table="netkit", name="a {}; flush ruleset", owner=NET),
        NftChain(table="netkit", name="a", owner='x"; }; flush ruleset; #'),
        NftChain(table="netkit", name="a", owner="netkit:" + "x" * 130),
        NftSet(table="netkit", name="a", fields=("ipv4_addr",), ranges=True, owner=NET),
    ],
    ids=lambda r: "/".join(r.key)[:40],
)
def test_what_cannot_be_expressed_is_refused_before_anything_is_done(
    lab: Lab, bad: Resource
) -> None:
    host = lab.host()
    lab.make(host, *some())
    at = generation(lab)
    with pytest.raises(KernelError):
        host.apply([Op(None, bad)])
    assert generation(lab) == at


def test_what_another_tool_did_between_our_look_and_our_step_need_not_be_done(lab: Lab) -> None:
    host = lab.host()
    first, second = rule("ip daddr 10.0.0.1 drop", -2), rule("ip daddr 10.0.0.2 drop", -1)
    lab.make(host, *frame(), *published(1, 80, 90), first, second)
    ops = [Op(r, None) for r in (*published(1, 80, 90), first, second)]
    lab.run("nft", "flush", "chain", "ip", "netkit", "forward")
    lab.run("nft", "flush", "set", "ip", "netkit", "spans")
    host.apply(ops)
    assert host.observe([r.key for r in (*published(1, 80, 90), first, second)]) == {}
    host.apply(ops)


def test_a_breakdown_of_nft_itself_is_survived(lab: Lab) -> None:
    """Once before, once after the commit; what breaks down for good is an error."""
    host = lab.host()
    whole: list[str] = []
    for commits in (False, True):
        once = iter([True])

        def broken(commands: str, *, commits: bool = commits, once: Iterator[bool] = once) -> Ran:
            if not next(once, False):
                return run._program(commands)
            if commits:
                run._program(commands)
            raise KernelError("nft was ended by SIGABRT", errno=errno.EAGAIN)

        host._tables._nft = Nft(lab.home, broken)
        lab.make(host, *some())
        whole.append(lab.run("nft", "-s", "list", "ruleset"))
        lab.drop(host, *some())
    assert whole[0] == whole[1] != ""

    def aborting(commands: str) -> Ran:
        raise KernelError("nft was ended by SIGABRT", errno=errno.EAGAIN)

    host._tables._nft = Nft(lab.home, aborting)
    with pytest.raises(KernelError, match="ended by SIGABRT"):
        lab.make(host, *some())
    assert lab.run("nft", "list", "ruleset") == ""


def test_elements_alone_take_no_program_and_read_as_if_nft_had_made_them(lab: Lab) -> None:
    host = lab.host()
    one = element("one", "02:42:0a:01:00:01", value=("tcp",), owner=f"{NET}:a")
    alone = NftSet(
        table="netkit", name="one", fields=("ether_addr",), data=("inet_proto",), owner=NET
    )
    mine = [
        *published(1, 80, 81),
        element("spans", "10.0.0.0/8", "0-255", "53"),
        element("home", "172.18.0.0/16", "br-0123456789ab"),
        element("links", "br*", "br-a.b", value=("drop",)),
        element("links", "br0", "br0", value=("goto", "side")),
        one,
    ]

    def listed() -> str:
        return lab.run("nft", "-s", "list", "table", "ip", "netkit")

    lab.make(host, *frame(), alone)
    # Beside a rule, so that nft makes all of it.
    lab.make(host, *mine, rule("counter"))
    lab.drop(host, rule("counter"))
    right = listed()
    lab.drop(host, *mine, rule("counter"))

    def unused(commands: str) -> Ran:
        raise AssertionError(f"nft was run: {commands}")

    host._tables._nft = Nft(lab.home, unused)
    lab.make(host, *mine)
    assert words(listed()) == words(right)
    assert host.observe([one.key]) == {one.key: one}
    lab.drop(host, *mine)
    assert host.observe([r.key for r in mine]) == {}


def test_a_program_that_aborts_is_reported(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\necho 'BUG: no such thing' >&2\nkill -ABRT $$\n")
    nft.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelError, match="ended by SIGABRT: BUG: no such thing") as failed:
        Nft(lab.home).apply("list tables\n")
    assert failed.value.errno == errno.EAGAIN


def test_all_that_is_ours_is_found_and_goes_as_one(lab: Lab) -> None:
    lab.make(lab.host(), *some(), *published(2, 80))
    host = lab.host()
    ours = host.owned("netkit:0:")
    assert set(ours) == {r.key for r in (*some(), *published(2, 80))}
    at = generation(lab)
    converge(Change.of({}, ours), host, ownership("0", lab.folder))
    assert generation(lab) == at + 1
    assert lab.run("nft", "list", "ruleset") == ""


def test_threads_have_contexts_of_their_own(lab: Lab) -> None:
    """No descriptor or namespace is kept either."""
    host = lab.host()
    lab.make(host, *frame())
    before = len(list(Path("/proc/self/fd").iterdir()))
    errors = _each_in_a_thread(lambda n: lab.make(host, *published(n, 80, 90)), range(8))
    assert errors == []
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    desired = [r.key for n in range(8) for r in published(n, 80, 90)]
    assert set(host.observe(desired)) == set(desired)


def _each_in_a_thread(act, numbers: Iterable[int]) -> list[Exception]:
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(act, n) for n in numbers]
        return [e for f in done if (e := f.exception())]  # type: ignore[misc]
