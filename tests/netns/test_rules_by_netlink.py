"""Rules that are added without iptables' tool: the same ones, in the same places."""

from __future__ import annotations

import random
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.firewall import probe_features
from netkit.kernel.iptables import agreement, by_netlink, nft_compat, tools
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


def test_every_rule_that_netkit_renders_is_to_the_tool_as_its_own(lab: Lab) -> None:
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
        assert len(theirs) == len(ours) == len(rules)
        assert all(b"comment\0" in one for one in theirs)
        assert not any(b"comment\0" in one for one in ours)
        printed = [line.replace("-OURS", "-THEIRS") for line in _saved(lab, table)]
        assert printed[: len(rules)] == printed[len(rules) :]
        for line in typed[::7]:
            lab.run("iptables-nft", "-t", table, "-C", *shlex.split(line[3:]))
        doomed = [line.replace("-A DOCKER-THEIRS", "-D DOCKER-OURS") for line in typed]
        text = "\n".join([f"*{table}", *doomed, "COMMIT", ""])
        lab.run("iptables-nft-restore", "--noflush", text=text)
        assert len(_saved(lab, table)) == len(rules)


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
        monkeypatch.setattr(nft_compat, "add", real)
        lab.run("iptables-nft", "-I", "DOCKER", "-s", "10.9.9.9/32", "-j", "RETURN")
        real(netlink, family, at, rules)

    monkeypatch.setattr(nft_compat, "add", late)
    lab.make(host, *CHAINS, rule("filter", "DOCKER", "-j DROP", rank=-1))
    there = _saved(lab, "filter")
    assert [NET in line for line in there] == [True, False]  # ours at the head: it was read again
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


def _comments(lab: Lab) -> tuple[int, int]:
    """How many rules of netkit's have their comment beside them, and how many as a match."""
    with netns.inside(lab.home), Netlink(NETLINK_NETFILTER) as netlink:
        places = [
            (t, c) for t in ("filter", "raw", "nat") for c in nft_compat.chains(netlink, 4, t)
        ]
        found = [e for t, c in places for e in nft_compat.expressions(netlink, 4, t, c)]
    matches = sum(b"comment\0" in e for e in found)
    return len(found) - matches, matches


def test_what_all_packets_pass_has_its_comment_beside_it_though_the_tool_made_it(lab: Lab) -> None:
    host, too_long_for_nft = lab.host(), "x" * 99
    everyone = [
        rule("filter", "FORWARD", "-j DOCKER", rank=-1),
        rule("filter", "DOCKER", "-j DROP"),
    ]
    few = [
        rule("nat", "DOCKER", "-d 10.0.0.1/32 -j RETURN"),
        rule("filter", "DOCKER", "-p tcp -m tcp --dport 80 -j ACCEPT"),
        replace(rule("filter", "DOCKER", "-s 10.0.0.2/32 -j DROP"), label=too_long_for_nft),
    ]
    lab.make(host, *CHAINS, *everyone, *few)
    assert _comments(lab) == (2, 3)
    before = [line for table in ("filter", "nat") for line in _saved(lab, table)]
    lab.run("iptables-nft", "-Z")  # writes them once more
    assert _comments(lab) == (2, 3)
    assert lab.make(host, *CHAINS, *everyone, *few) == ()
    other = lab.host()  # as after a restart of the daemon
    assert len([r for r in other.owned("netkit:0").values() if isinstance(r, Rule)]) == 5
    other._rules._direct = False
    lab.drop(other, *CHAINS, *everyone, *few)
    assert _comments(lab) == (0, 0)
    lab.make(other, *CHAINS, *everyone, *few)
    assert _comments(lab) == (0, 5)
    assert [line for table in ("filter", "nat") for line in _saved(lab, table)] == before


def test_a_rule_that_changed_meanwhile_stays_as_the_tool_wrote_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(netlink: Netlink, family: int, at: int, rules: list[NewRule]) -> None:
        raise KernelError("changed")

    monkeypatch.setattr(nft_compat, "add", late)
    host, some = lab.host(), rule("filter", "DOCKER", "-j DROP")
    lab.make(host, *CHAINS, some)
    assert _comments(lab) == (0, 1)
    assert lab.make(host, *CHAINS, some) == ()


def test_rules_are_written_without_the_tool_only_where_it_takes_them_for_its_own(
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


def test_that_is_found_out_without_deleting_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion waits for an RCU grace period, and so does the next load of an extension."""
    given: list[str] = []
    run = tools.run

    def noted(home: str, argv: list[str], text: str = "") -> object:
        given.extend(text.splitlines())
        return run(home, argv, text)

    monkeypatch.setattr(tools, "run", noted)
    with netns.scratch():
        assert agreement.disagreement() == ""
    samples = sum(map(len, agreement.SAMPLES.values()))
    assert Counter(line[:3] for line in given if line.startswith("-")) == {
        "-N ": 4, "-A ": samples, "-C ": samples,
    }  # fmt: skip


def test_a_host_that_is_not_direct_leaves_them_to_the_tool(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = lab.host()
    host._rules._direct = False
    monkeypatch.setattr(by_netlink, "addition", lambda ops: pytest.fail("added by netlink"))
    lab.make(host, *CHAINS, rule("filter", "DOCKER", "-j DROP"))
    assert len(_saved(lab, "filter")) == 1
