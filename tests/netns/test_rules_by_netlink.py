"""Rules that are added without iptables' tool: the same ones, in the same places."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.firewall import probe_features
from netkit.kernel.iptables import agreement, by_netlink, nft_compat
from netkit.kernel.iptables.expressions import encode
from netkit.kernel.iptables.nft_compat import NETLINK_NETFILTER, NewRule
from netkit.kernel.netlink.codec import Netlink
from netkit.model import Chain, Resource, Rule
from netkit.reconcile.plan import Op
from tests.netns.conftest import NET, Lab, fresh_lab, rule
from tests.unit.plugins.firewall.firewall_matrix import BACKENDS, expected

pytestmark = pytest.mark.root
COMMENT = "netkit:0:aaaaaaaaaaaa 0123456789abcdef 10 (web on net)"
CHAINS = [
    Chain(table="filter", name="DOCKER", owner=NET),
    Chain(table="nat", name="DOCKER", owner=NET),
]


def _saved(lab: Lab, table: str) -> list[str]:
    out = lab.run("iptables-nft-save", "-t", table)
    return [line for line in out.splitlines() if line.startswith("-A")]


def _without_tool(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no host of the lab may run it."""

    def refused(*_: object) -> None:
        raise AssertionError("the tool was run")

    for host in lab.made:
        monkeypatch.setattr(host.tools, "restore", refused)


@pytest.fixture
def other() -> Iterator[Lab]:
    with fresh_lab() as lab:
        yield lab


def test_every_rule_that_netkit_renders_is_the_tools_byte_for_byte(lab: Lab) -> None:
    lines = {(line.place.split()[0], line.text) for _, line in expected(BACKENDS[0])}
    known = sorted((t, text) for t, text in lines if "-j " in text and encode(text.split(), "c"))
    assert len(known) > 20
    for table in sorted({t for t, _ in known}):
        rules = [text for t, text in known if t == table]
        typed = [f'-A DOCKER-THEIRS {text} -m comment --comment "{COMMENT}"' for text in rules]
        chains = ("DOCKER", "DOCKER-THEIRS", "DOCKER-OURS")
        text = "\n".join([f"*{table}", *(f"-N {c}" for c in chains), *typed, "COMMIT", ""])
        lab.run("iptables-nft-restore", "--noflush", text=text)
        new = [
            NewRule(table, "DOCKER-OURS", written)
            for line in rules
            if (written := encode(line.split(), COMMENT))
        ]
        with netns.inside(lab.home), Netlink(NETLINK_NETFILTER) as netlink:
            nft_compat.add(netlink, 4, nft_compat.generation(netlink), new)
            theirs = nft_compat.expressions(netlink, 4, table, "DOCKER-THEIRS")
            ours = nft_compat.expressions(netlink, 4, table, "DOCKER-OURS")
        assert len(theirs) == len(rules)
        pairs = zip(rules, theirs, ours, strict=True)
        assert [line for line, one, two in pairs if one != two] == []
        printed = [line.replace("-OURS", "-THEIRS") for line in _saved(lab, table)]
        assert printed[: len(rules)] == printed[len(rules) :]


def test_rules_stand_where_the_tool_would_put_them(
    lab: Lab, other: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(13)
    one, two = lab.host(), other.host()
    two._rules._direct = False
    for each in (lab, other):
        each.make(each.made[0], *CHAINS)
        each.run("iptables-nft", "-A", "DOCKER", "-s", "10.9.9.9/32", "-j", "DROP")
    _without_tool(lab, monkeypatch)
    port = 0
    for _ in range(8):
        some: list[Resource] = []
        for _ in range(draw.randint(1, 6)):
            port += 1
            rank = draw.choice([-3, -2, -1, 0, 0, 1, 10, 40])
            some.append(rule("filter", "DOCKER", f"-s 10.0.0.{port}/32 -j DROP", rank=rank))
        # The tool adds them in the order in which they are given, which is that of ranks.
        some.sort(key=lambda r: r.rank)  # type: ignore[attr-defined]
        one.apply([Op(None, r) for r in some])
        two.apply([Op(None, r) for r in some])
        for each in (lab, other):
            each.run("iptables-nft", "-A", "DOCKER", "-s", f"10.9.9.{port}/32", "-j", "DROP")
        assert _saved(lab, "filter") == _saved(other, "filter")
    rules = [r for r in one.observe([("chain", "4", "filter", "DOCKER")]).values()]
    assert rules
    seen = one.owned("netkit:0")
    assert all(r.placed for r in seen.values() if isinstance(r, Rule))


def test_rules_of_any_order_come_to_stand_by_rank(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.host()
    lab.make(host, *CHAINS)
    _without_tool(lab, monkeypatch)
    ranks = [40, 10, -1, 30, -3, 10, 0]
    rules = [
        rule("filter", "DOCKER", f"-s 10.0.0.{n}/32 -j DROP", rank=rank)
        for n, rank in enumerate(ranks, 1)
    ]
    lab.make(host, *CHAINS, *rules)
    there = [line.split("-s 10.0.0.")[1].split("/")[0] for line in _saved(lab, "filter")]
    assert [ranks[int(n) - 1] for n in there] == sorted(ranks)
    assert lab.make(host, *CHAINS, *rules) == ()


def test_a_change_of_several_tables_is_one_transaction_without_a_process(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.host()
    lab.make(host, *CHAINS)
    _without_tool(lab, monkeypatch)
    added: list[int] = []
    real = nft_compat.add

    def counted(netlink: Netlink, family: int, at: int, rules: list[NewRule]) -> None:
        added.append(len(rules))
        real(netlink, family, at, rules)

    monkeypatch.setattr(nft_compat, "add", counted)
    port = "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.77.0.2:80"
    lab.make(
        host,
        *CHAINS,
        rule("nat", "DOCKER", port),
        rule("filter", "DOCKER", "-d 10.77.0.2/32 -j ACCEPT"),
    )
    assert added == [2]
    assert [len(_saved(lab, t)) for t in ("nat", "filter")] == [1, 1]


def test_where_rules_changed_meanwhile_or_one_is_refused_the_tool_decides(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.host()
    lab.make(host, *CHAINS)
    real = nft_compat.add

    def late(netlink: Netlink, family: int, at: int, rules: list[NewRule]) -> None:
        lab.run("iptables-nft", "-I", "DOCKER", "-s", "10.9.9.9/32", "-j", "RETURN")
        real(netlink, family, at, rules)

    monkeypatch.setattr(nft_compat, "add", late)
    lab.make(host, *CHAINS, rule("filter", "DOCKER", "-j DROP", rank=-1))
    there = _saved(lab, "filter")
    assert [NET in line for line in there] == [True, False]  # ours at the head: it was read again
    monkeypatch.setattr(nft_compat, "add", real)
    lab.run("iptables-nft", "-F", "DOCKER")
    lab.run("iptables-nft", "-X", "DOCKER")
    some = rule("filter", "DOCKER", "-j DROP"), rule("nat", "DOCKER", "-j RETURN")
    with pytest.raises(Exception, match="DOCKER"):
        host.apply([Op(None, r) for r in some])
    assert [_saved(lab, t) for t in ("nat", "filter")] == [[], []]


def test_a_target_that_is_no_chain_is_left_to_the_tool(lab: Lab) -> None:
    host = lab.host()
    lab.make(host, *CHAINS)
    some = rule("filter", "DOCKER", "-j LOG"), rule("nat", "DOCKER", "-j DOCKER-X")
    lab.make(host, *CHAINS, some[0])
    assert _saved(lab, "filter")[0].endswith("-j LOG")
    with pytest.raises(KernelError, match="DOCKER-X"):
        lab.make(host, *CHAINS, *some)


def test_rules_are_written_without_the_tool_only_where_it_writes_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with netns.scratch():
        assert agreement.disagreement() == ""
    assert probe_features.probe("iptables-nft").works("rules by netlink")

    def older(args: list[str], comment: str) -> object:
        return encode([{"80": "81"}.get(a, a) for a in args], comment)

    monkeypatch.setattr(agreement, "encode", older)
    found = probe_features.probe("iptables-nft")
    assert not found.works("rules by netlink")
    assert found.missing == ()
    (why,) = [f.why_not for f, _ in found.lost if f.name == "rules by netlink"]
    assert "another form of -d 192.0.2.1/32" in why


def test_a_host_that_is_not_direct_leaves_them_to_the_tool(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.host()
    host._rules._direct = False
    monkeypatch.setattr(by_netlink, "addition", lambda ops: pytest.fail("added by netlink"))
    lab.make(host, *CHAINS, rule("filter", "DOCKER", "-j DROP"))
    assert len(_saved(lab, "filter")) == 1
