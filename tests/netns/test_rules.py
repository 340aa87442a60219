"""iptables for real, both variants: order, foreign rules, which variant, cost."""

from __future__ import annotations

import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path
from threading import Event

import pytest

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat, tools
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import Addr, Chain, Rule, state
from netkit.reconcile.converge import Change, ownership
from netkit.reconcile.plan import Op
from netkit.reconcile.queue import ReconcileQueue
from tests.netns.conftest import NET, rule

pytestmark = pytest.mark.root
both = pytest.mark.parametrize("variant", ["nft", "legacy"])

THEIRS = r"""*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -i br9 -j RETURN
-A DOCKER -p tcp -m tcp --dport 99 -m comment --comment "a \"quoted\" one, not netkit's" -j DNAT --to-destination 10.9.9.9:99
COMMIT
*filter
:MINE - [0:0]
-A FORWARD -s 10.9.0.0/16 -m comment --comment "netkit:but no digest" -j MINE
-A FORWARD -j LOG --log-prefix "x y: "
-A MINE -m limit --limit 3/sec -j RETURN
-A MINE -m mark --mark 0x1 -j DROP
COMMIT
"""  # noqa: E501


def _saved(lab, variant, table):
    """Return rules in order, without counters and times."""
    out = lab.run(f"iptables-{variant}-save", "-t", table)
    return [line for line in out.splitlines() if line.startswith("-A")]


def _chains(lab, variant, table):
    out = lab.run(f"iptables-{variant}-save", "-t", table)
    return {line[1:].split()[0] for line in out.splitlines() if line.startswith(":")}


def _theirs(lines):
    return [line for line in lines if NET not in line]


def _some(n=3):
    ports = (f"-p tcp -m tcp --dport {8000 + i} -j DNAT --to-destination 10.77.0.{i + 2}:80"
             for i in range(n))  # fmt: skip
    return [
        Chain(table="nat", name="DOCKER", owner=NET),
        Chain(table="filter", name="DOCKER-USER", owner=NET),
        rule("filter", "FORWARD", "-j DOCKER-USER", rank=-1),
        rule("nat", "POSTROUTING", "-s 10.77.0.0/16 ! -o br0 -j MASQUERADE"),
        *(rule("nat", "DOCKER", p, rank=10) for p in ports),
    ]


@both
def test_foreign_rules_stay_byte_for_byte_in_their_order(lab, variant):
    lab.run(f"iptables-{variant}-restore", text=THEIRS)
    before = {t: _saved(lab, variant, t) for t in ("nat", "filter")}
    host = lab.host(variant)
    lab.make(host, *_some())
    assert {t: _theirs(_saved(lab, variant, t)) for t in before} == before
    lab.make(host, *_some(20))
    lab.drop(host, *_some(20))
    assert {t: _saved(lab, variant, t) for t in before} == before
    assert "DOCKER" in _chains(lab, variant, "nat")


@both
def test_ranks_order_ours_and_theirs_stay_between(lab, variant):
    lab.run(f"iptables-{variant}-restore", text="*filter\n-A FORWARD -s 10.9.0.1 -j DROP\nCOMMIT\n")
    host = lab.host(variant)
    ranks = [5, -2, 0, -1, 7, 3]
    for rank in ranks:
        lab.make(
            host, rule("filter", "FORWARD", f"-m mark --mark {rank + 100} -j ACCEPT", rank=rank)
        )
    lines = _saved(lab, variant, "filter")
    marks = [int(s.split("--mark ")[1].split()[0], 16) - 100 if NET in s else "x" for s in lines]
    assert marks == [-2, -1, "x", 0, 3, 5, 7]
    lab.drop(host, rule("filter", "FORWARD", "-m mark --mark 103 -j ACCEPT", rank=3))
    fresh = lab.host(variant)  # a daemon that knows only what the kernel says
    lab.make(fresh, rule("filter", "FORWARD", "-m mark --mark 104 -j ACCEPT", rank=4))
    lines = _saved(lab, variant, "filter")
    marks = [int(s.split("--mark ")[1].split()[0], 16) - 100 if NET in s else "x" for s in lines]
    assert marks == [-2, -1, "x", 0, 4, 5, 7]


@both
def test_a_new_daemon_knows_its_rules_and_can_undo_their_removal(lab, variant):
    lab.make(lab.host(variant), *_some())
    before = _saved(lab, variant, "nat")
    fresh = lab.host(variant)
    assert lab.make(fresh, *_some()) == ()
    mine = [r for r in _some() if isinstance(r, Rule)]
    seen = fresh.observe([r.key for r in mine])
    ops = [Op(seen[r.key], None) for r in mine]
    fresh.apply(ops)
    assert _saved(lab, variant, "nat") == []
    for op in reversed(ops):
        fresh.apply([op.inverse()])
    assert sorted(_saved(lab, variant, "nat")) == sorted(before)
    assert lab.make(fresh, *_some()) == ()


@both
def test_overtaken_moved_or_doubled_rules_are_repaired(lab, variant):
    host = lab.host(variant)
    rules = [
        rule("filter", "FORWARD", "-m mark --mark 1 -j ACCEPT", rank=-2),
        rule("filter", "FORWARD", "-m mark --mark 2 -j ACCEPT", rank=-1),
        rule("filter", "FORWARD", "-m mark --mark 3 -j ACCEPT", rank=3),
        rule("filter", "FORWARD", "-m mark --mark 4 -j ACCEPT", rank=4),
    ]
    lab.make(host, *rules)
    right = _saved(lab, variant, "filter")
    foreign = "-A FORWARD -s 10.9.0.1/32 -j ACCEPT"

    def repair() -> list[str]:
        seen = host.observe([r.key for r in rules]).values()
        bad = [r.placed for r in seen]
        assert len(bad) < 4 or not all(bad)
        lab.make(host, *rules)
        assert lab.make(host, *rules) == ()
        return _saved(lab, variant, "filter")

    lab.run(f"iptables-{variant}", *foreign.replace("-A FORWARD", "-I FORWARD 1").split())
    assert repair() == [*right[:2], foreign, *right[2:]]
    lab.run(f"iptables-{variant}", *foreign.replace("-A", "-D").split())
    text = "\n".join(["*filter", *right, "COMMIT", ""])
    lab.run(f"iptables-{variant}-restore", "--noflush", text=text)  # an old dump on top
    assert repair() == right
    lab.run(f"iptables-{variant}", "-F", "FORWARD")
    text = "\n".join(["*filter", *reversed(right), "COMMIT", ""])
    lab.run(f"iptables-{variant}-restore", "--noflush", text=text)
    assert repair() == right


@both
def test_flushed_rules_come_back(lab, variant):
    host = lab.host(variant)
    lab.make(host, *_some())
    lab.run(f"iptables-{variant}", "-t", "nat", "-F")
    assert len(lab.make(host, *_some())) == 4
    assert lab.make(host, *_some()) == ()


@both
def test_a_chain_used_by_foreign_rules_is_not_deleted(lab, variant):
    host = lab.host(variant)
    host._rules._names, host._rules._owner = ("DOCKER",), NET
    lab.make(host, *_some())
    lab.run(f"iptables-{variant}", "-t", "nat", "-A", "DOCKER", "-s", "10.1.1.1", "-j", "RETURN")
    lab.drop(host, *_some())
    assert "DOCKER" in _chains(lab, variant, "nat")
    assert "DOCKER-USER" not in _chains(lab, variant, "filter")
    lab.run(f"iptables-{variant}", "-t", "nat", "-F", "DOCKER")
    lab.run(f"iptables-{variant}", "-t", "nat", "-A", "OUTPUT", "-j", "DOCKER")
    lab.drop(host, *_some())
    assert "DOCKER" in _chains(lab, variant, "nat")
    lab.run(f"iptables-{variant}", "-t", "nat", "-F", "OUTPUT")
    lab.drop(host, *_some())
    assert "DOCKER" not in _chains(lab, variant, "nat")


@both
def test_one_bad_rule_of_many_tables_leaves_none(lab, variant):
    lab.run(f"iptables-{variant}-restore", text=THEIRS)
    before = {t: _saved(lab, variant, t) for t in ("nat", "filter", "raw")}
    host = lab.host(variant)
    bad = rule("raw", "PREROUTING", "-j NOSUCH")
    with pytest.raises(KernelError, match=r"raw -A PREROUTING .*NOSUCH") as e:
        host.apply([Op(None, r) for r in (*_some(), bad)])
    assert e.value.done in {0, len(_some())}
    for r in reversed(_some()[: e.value.done]):
        host.apply([Op(r, None)])
    assert {t: _saved(lab, variant, t) for t in before} == before


@both
def test_what_another_table_got_after_the_first_failure_is_taken_back(lab, variant):
    host = lab.host(variant)
    good = rule("filter", "FORWARD", "-s 10.9.9.9/32 -j DROP")  # filter is committed first
    bad = rule("nat", "OUTPUT", "-j NOSUCH")
    with pytest.raises(KernelError, match="NOSUCH") as e:
        host.apply([Op(None, bad), Op(None, good)])
    assert e.value.done == 0
    assert (_saved(lab, variant, "filter"), _saved(lab, variant, "nat")) == ([], [])


@both
def test_arguments_with_blanks_and_quotes_survive(lab, variant):
    host = lab.host(variant)
    odd = Rule(
        table="filter",
        chain="FORWARD",
        args=("-m", "string", "--algo", "bm", "--string", 'a "b" \\c d', "-j", "DROP"),
        owner=NET,
    )
    lab.make(host, odd)
    fresh = lab.host(variant)
    seen = fresh.observe([odd.key])[odd.key]
    assert 'a "b" \\c d' in seen.args
    lab.drop(fresh, odd)
    assert _saved(lab, variant, "filter") == []


@both
def test_ipv6_rules_go_through_ip6tables(lab, variant):
    host = lab.host(variant)
    r = Rule(
        table="filter", chain="FORWARD", args=("-s", "fd00::/8", "-j", "DROP"), family=6, owner=NET
    )
    lab.make(host, r)
    assert lab.make(host, r) == ()
    assert "fd00::/8" in lab.run(f"ip6tables-{variant}-save", "-t", "filter")
    assert _saved(lab, variant, "filter") == []
    lab.drop(host, r)
    assert "fd00::/8" not in lab.run(f"ip6tables-{variant}-save", "-t", "filter")


# -- which variant ------------------------------------------------------------


def test_the_variant_that_has_rules_is_chosen(lab):
    assert lab.host(None).variant == "nft"  # Debian's default, and nothing there
    lab.run("iptables-legacy", "-A", "FORWARD", "-j", "DROP")
    assert lab.host(None).variant == "legacy"
    lab.run("iptables-nft", "-A", "FORWARD", "-j", "DROP")
    assert lab.host(None).variant == "nft"
    lab.run("iptables-legacy", "-N", "DOCKER-USER")
    assert lab.host(None).variant == "legacy"
    assert lab.host("nft").variant == "nft"


def test_looking_makes_no_legacy_tables(lab):
    host = lab.host("legacy")
    assert host.observe([r.key for r in _some()]) == {}
    assert lab.host(None).variant == "nft"
    host.owned("netkit:")
    assert lab.run("cat", "/proc/net/ip_tables_names") == ""


def test_a_host_without_iptables_says_so(lab, monkeypatch):
    host = lab.host("nft")
    monkeypatch.setattr(tools, "SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KernelError, match="iptables-nft-restore is not installed"):
        lab.make(host, *_some())


# -- cost ----------------------------------------------------------------------


@both
def test_fifty_waiting_changes_are_one_commit(lab, variant, monkeypatch):
    host = lab.host(variant)
    lab.make(host, *lab.bridge(), Chain(table="nat", name="DOCKER", owner=NET))
    commits = []
    restore, add = host._rules.tools.restore, nft_compat.add
    begun, gate, seen = Event(), Event(), host.observe

    def counted(family, text):
        commits.append(text)
        restore(family, text)

    def counted_rules(netlink, family, at, rules):
        commits.append(rules)
        add(netlink, family, at, rules)

    def slow(keys):
        begun.set()
        gate.wait(120)
        return seen(keys)

    host._rules.tools.restore = counted
    monkeypatch.setattr(nft_compat, "add", counted_rules)
    host.observe = slow
    with ReconcileQueue(host, ownership("0", lab.folder)) as worker, ThreadPoolExecutor(51) as pool:
        first = pool.submit(worker.converge, Change.of(state(lab.bridge())))
        assert begun.wait(60)
        changes = [Change.of(state([*lab.container(n), *_published(n)])) for n in range(50)]
        rest = [pool.submit(worker.converge, c) for c in changes]
        for _ in range(6000):
            if len(worker._waiting) == 50:
                break
            time.sleep(0.01)
        gate.set()
        assert first.result() == ()
        assert [len(f.result()) for f in rest] == [len(c.desired) for c in changes]
    assert len(commits) == 1
    assert len(_saved(lab, variant, "nat")) == 50


def _published(n):
    args = f"-p tcp -m tcp --dport {8000 + n} -j DNAT --to-destination 10.77.0.9:80"
    return [rule("nat", "DOCKER", args, owner=f"{NET}:{n:012x}")]


def test_nft_rules_are_not_read_again_while_nothing_changed(lab):
    host = lab.host("nft")
    lab.make(
        host, Chain(table="nat", name="DOCKER", owner=NET), *(_published(n)[0] for n in range(2000))
    )
    one = _published(7)[0]
    host.observe([one.key])
    before = host.tally.answers
    assert set(host.observe([one.key])) == {one.key}
    assert host.tally.answers - before < 5
    lab.run("iptables-nft", "-t", "nat", "-F", "DOCKER")
    assert host.observe([one.key]) == {}


def test_publishing_is_cheap_with_many_published(lab, capsys):
    for variant in ("nft", "legacy"):
        host = lab.host(variant)
        many = [
            Chain(table="nat", name="DOCKER", owner=NET),
            *(_published(n)[0] for n in range(1000)),
        ]
        start = time.perf_counter()
        lab.make(host, *many)
        made, times = time.perf_counter() - start, []
        for n in range(2000, 2010):
            start = time.perf_counter()
            lab.make(host, *_published(n))
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        lab.drop(host, *many[1:])
        dropped = time.perf_counter() - start
        with capsys.disabled():
            print(
                f"\n{variant}: 1000 rules {made * 1000:.0f} ms, one more "
                f"{statistics.median(times) * 1000:.1f} ms, 1000 removed {dropped * 1000:.0f} ms"
            )
        assert len(_saved(lab, variant, "nat")) == 10


def test_removal_by_handle_refuses_a_ruleset_that_changed(lab):
    lab.run("iptables-nft", "-A", "FORWARD", "-j", "DROP")
    with Session(lab.home, Tally()) as session:
        netlink = session.nftables()
        at = nft_compat.generation(netlink)
        (drop,) = nft_compat.rules(netlink, 4, "filter", "FORWARD")
        lab.run("iptables-nft", "-A", "FORWARD", "-j", "ACCEPT")
        with pytest.raises(KernelError):
            nft_compat.delete(netlink, 4, at, [("filter", "FORWARD", drop.handle)])
        assert len(nft_compat.rules(netlink, 4, "filter", "FORWARD")) == 2
        now = nft_compat.generation(netlink)
        nft_compat.delete(netlink, 4, now, [("filter", "FORWARD", drop.handle)])
        assert len(nft_compat.rules(netlink, 4, "filter", "FORWARD")) == 1


def test_an_address_and_a_rule_in_one_plan_are_undone_together(lab):
    host = lab.host("nft")
    bad = Addr(dev="nosuch", address=ip_interface("10.1.1.1/24"), owner=NET)
    with pytest.raises(KernelError, match="nosuch"):
        lab.make(host, *lab.bridge(), *_some(), bad)
    assert host.owned("netkit:") == {}
    assert _saved(lab, "nft", "nat") == []


def test_a_tool_waits_for_the_next_change_in_our_namespace_and_ends_when_closed(lab):
    host = lab.host("nft")
    for n in range(1, 4):
        lab.make(host, *_some(n))
        (waiting,) = _tools(lab)
        done = [line for line in _saved(lab, "nft", "nat") if "DNAT" in line]
        assert len(done) == n
    lab.run("kill", "-9", str(waiting))
    lab.make(host, *_some(4))
    bad = rule("filter", "FORWARD", "-j NOSUCH")
    with pytest.raises(KernelError, match="NOSUCH"):
        lab.make(host, bad)
    assert len(_tools(lab)) == 1
    host.close()
    assert _tools(lab) == []


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("committed", [False, True])
def test_a_tool_that_another_process_kills_is_run_again(lab, variant, committed, monkeypatch):
    host = lab.host(variant)
    monkeypatch.setattr(tools, "MOST", 0)  # not by python-iptables
    real, first = host._rules.tools._run_restore, [True]

    def killed(family, argv, text):
        if not first:
            return real(family, argv, text)
        first.clear()
        if committed:
            assert real(family, argv, text).returncode == 0
        return subprocess.CompletedProcess(argv, -9, "", "")

    monkeypatch.setattr(host._rules.tools, "_run_restore", killed)
    lab.make(host, *_some(1))
    assert len([line for line in _saved(lab, variant, "nat") if "DNAT" in line]) == 1


def _tools(lab):
    """Return pids of the firewall's tools in the namespace of a lab."""
    out = []
    for pid in lab.run("ip", "netns", "pids", lab.name).split():
        with suppress(FileNotFoundError):  # the one that listed them
            if Path(f"/proc/{pid}/cmdline").read_text().startswith("iptables-nft-restore"):
                out.append(pid)
    return out
