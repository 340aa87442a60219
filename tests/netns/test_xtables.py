"""python-iptables in its process: supported rules, concurrent writers, failures."""

from __future__ import annotations

import errno
import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import pytest

from netkit.driver import Access, PortMapping, TrafficPolicy
from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.kernel.iptables import tools as iptables
from netkit.kernel.iptables.legacy.client import Committer, Inexpressible, Refused
from netkit.kernel.iptables.tools import RestoreFailed, Tools
from netkit.model import Rule, Sysctl
from netkit.reconcile.plan import Op
from tests.netns.conftest import NET, rule
from tests.unit.plugins.firewall import firewall_matrix as matrix
from tests.unit.plugins.firewall.firewall_matrix import BACKENDS, CASES, asked

pytestmark = pytest.mark.root

OURS = f'-m comment --comment "{NET} 0123456789abcdef 10"'
VOCABULARY = [
    ("filter", "FORWARD", "-j DOCKER"),
    ("filter", "FORWARD", "-g DOCKER"),
    ("filter", "FORWARD", "-j ACCEPT"),
    ("filter", "FORWARD", "-j RETURN"),
    ("filter", "FORWARD", "-m mark --mark 0x1/0xff"),  # only counts
    ("filter", "FORWARD", "-o br-0123456789a -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
    ("filter", "FORWARD", "-d 10.1.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 80 -j ACCEPT"),
    ("filter", "FORWARD", "-s 10.1.0.2/32 -i br0 -o br0 -p tcp -m tcp --sport 80:90 -j ACCEPT"),
    ("filter", "FORWARD", "! -s 10.1.0.0/16 ! -d 10.2.0.0/16 ! -p udp -j DROP"),
    ("filter", "FORWARD", "-i br+ ! -o br+ -p icmp -j ACCEPT"),
    ("filter", "FORWARD", "-p icmp -m icmp --icmp-type 8 -j ACCEPT"),
    ("filter", "FORWARD", "-p sctp -m sctp --dport 7 -j ACCEPT"),
    ("filter", "FORWARD", "-p tcp -m multiport --dports 1,2,80:90 -j DOCKER"),
    ("filter", "FORWARD", "-p udp -m multiport ! --sports 53 -j DROP"),
    ("filter", "FORWARD",
     "-d 10.1.0.2/32 -p tcp -m conntrack --ctstate DNAT --ctorigdstport 8000:8010 -j DROP"),
    ("filter", "FORWARD", "-p udp -m conntrack --ctorigdst 192.0.2.1 --ctorigdstport 53 -j DROP"),
    ("filter", "FORWARD", "-m addrtype ! --dst-type LOCAL -j ACCEPT"),
    ("filter", "FORWARD", "-m physdev --physdev-is-bridged -j ACCEPT"),
    ("filter", "FORWARD", '-s 1.2.3.4/32 -j LOG --log-prefix "a \\"b\\" \\\\ -c: " --log-level 4'),
    ("filter", "FORWARD", "-p tcp -j REJECT --reject-with tcp-reset"),
    ("filter", "FORWARD", '-m comment --comment "it\'s -j odd, !"'),
    ("filter", "FORWARD", "-p tcp -m tcp --tcp-flags SYN,RST SYN -j DROP"),
    ("nat", "PREROUTING", "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER"),
    ("nat", "DOCKER", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.0.2:8080"),
    ("nat", "DOCKER", "-d 192.0.2.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.1.0.2"),
    ("nat", "DOCKER",
     "-p tcp -m tcp --dport 8000:8010 -j DNAT --to-destination 10.1.0.2:9000-9010/8000"),
    ("nat", "POSTROUTING", "-s 10.1.0.0/16 ! -o br0 -j MASQUERADE"),
    ("nat", "POSTROUTING", "-s 10.1.0.0/16 ! -o br0 -j SNAT --to-source 192.0.2.1"),
    ("nat", "POSTROUTING", "-o br0 -m addrtype --src-type LOCAL -j MASQUERADE"),
    ("nat", "OUTPUT", "-p tcp -j REDIRECT --to-ports 80"),
    ("raw", "PREROUTING", "-i br0 -s 127.0.0.0/8 -j DROP"),
    ("raw", "PREROUTING", "-p udp -j CT --notrack"),
    ("mangle", "FORWARD", "-p tcp -j MARK --set-xmark 0x1/0xffffffff"),
]  # fmt: skip


@pytest.fixture
def committer(lab):
    with_lab = Committer(lab.home)
    yield with_lab
    with_lab.close()


def _saved(lab, table):
    out = lab.run("iptables-legacy-save", "-t", table)
    return [line for line in out.splitlines() if line.startswith("-A")]


def _text(table, *lines):
    return "\n".join([f"*{table}", *lines, "COMMIT", ""])


def _alive(committer):
    process = committer._process
    return process.popen if process else None


@pytest.mark.parametrize(
    ("table", "chain", "arguments"), VOCABULARY, ids=[v[2] for v in VOCABULARY]
)
def test_our_rules_mean_the_same_to_the_tool(lab, committer, table, chain, arguments):
    """The rule as the tool prints it deletes it again; foreign rules beside it stay."""
    new = ("-N DOCKER",) if chain == "DOCKER" or "DOCKER" in arguments else ()
    committer.commit(4, _text(table, *new, f"-A {chain} {arguments}"), 5)
    got = _saved(lab, table)
    assert len(got) == 1
    lab.run("iptables-legacy-restore", "-n", text=_text(table, f"-A {chain} {arguments}"))
    assert _saved(lab, table) == got * 2
    committer.commit(4, _text(table, got[0].replace("-A", "-D", 1)), 5)
    assert _saved(lab, table) == got
    lab.run("iptables-legacy-restore", "-n", text=_text(table, got[0].replace("-A", "-D", 1)))
    assert _saved(lab, table) == []


def test_sets_are_matched(lab, committer):
    lab.run(*_ipset("create", "nks-a", "hash:net"))
    arguments = "-m set --match-set nks-a src,dst -j DROP"
    committer.commit(4, _text("filter", f"-A FORWARD {arguments}"), 5)
    assert _saved(lab, "filter") == [f"-A FORWARD {arguments}"]
    committer.commit(4, _text("filter", f"-D FORWARD {arguments}"), 5)
    assert _saved(lab, "filter") == []
    with pytest.raises(Inexpressible):
        committer.commit(4, _text("filter", "-A FORWARD -m set --match-set nosuch src -j DROP"), 5)


def _all_rules_of_our_firewall():
    """Return rules of its whole matrix of options, and of a container with scattered ports."""
    firewall = BACKENDS[0].firewall
    made = [*firewall.setup(NET)]
    for case in CASES:
        policy, ports, access = asked(case)
        made += firewall.network(matrix.NET, policy)
        made += firewall.endpoint(matrix.NET, policy, matrix.EP, ports, access)
    for proto in ("tcp", "udp", "sctp"):
        scattered = [
            PortMapping(proto=proto, container_port=p + 7, host_ip=ip, host_port=p)
            for p in range(1000, 9000, 400)
            for ip in ("0.0.0.0", "192.0.2.1")
        ]
        many = Access(
            id="9" * 12,
            verdict="drop",
            sources=tuple(ip_network(f"10.0.{i}.0/24") for i in range(0, 100, 2)),
        )
        made += firewall.endpoint(
            matrix.NET, TrafficPolicy(link="br0"), matrix.EP, scattered, [many]
        )
    return list({r.key: r for r in made if not isinstance(r, Sysctl)}.values())


def test_all_rules_of_our_firewall_mean_the_same_to_the_tool(lab, monkeypatch):
    ours = _all_rules_of_our_firewall()
    assert len(ours) > 150
    netns.create(lab.ns("tool"))
    other = Host(lab.ns("tool"), variant="legacy")
    monkeypatch.setattr(iptables, "MOST", 0)
    other.apply([Op(None, r) for r in sorted(ours, key=lambda r: r.order)])
    monkeypatch.setattr(iptables, "MOST", 10**6)
    real = iptables.run

    def reading(home, argv, text=None):
        assert "restore" not in argv[0], f"beyond python-iptables: {text}"
        return real(home, argv, text)

    monkeypatch.setattr(iptables, "run", reading)
    host = lab.host("legacy")
    host.apply([Op(None, r) for r in sorted(ours, key=lambda r: r.order)])
    for table in ("filter", "nat", "raw"):
        theirs = lab.run("iptables-legacy-save", "-t", table, at=other.home).splitlines()
        assert _saved(lab, table) == [x for x in theirs if x.startswith("-A")]
    fresh = lab.host("legacy")
    assert len(_saved(lab, "filter")) > 50
    lab.drop(fresh, *ours)
    assert [_saved(lab, t) for t in ("filter", "nat", "raw")] == [[], [], []]
    for h in (host, fresh, other):
        h.close()


def test_a_network_and_its_ports_on_a_legacy_host_are_committed_by_python_iptables_alone(
    lab, monkeypatch, tmp_path
):
    """Replace the restoring tool by one that records its input and fails."""
    used, decoy = tmp_path / "used", tmp_path / "iptables-legacy-restore"
    decoy.write_text(f"#!/bin/sh\ncat >>{used}\nexit 1\n")
    decoy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    host = lab.host("legacy")
    committed = []
    commit = host.tools._committer.commit
    monkeypatch.setattr(
        host.tools._committer, "commit", lambda *a: (commit(*a), committed.append(a[1]))
    )
    policy = TrafficPolicy(link="br0")
    port = PortMapping(proto="tcp", container_port=80, host_ip="0.0.0.0", host_port=8080)
    firewall = BACKENDS[0].firewall
    rules = [
        list(firewall.setup(NET)), list(firewall.network(matrix.NET, policy)),
        list(firewall.endpoint(matrix.NET, policy, matrix.EP, [port], [])),
    ]  # fmt: skip
    for some in rules:
        lab.make(host, *(r for r in some if not isinstance(r, Sysctl)))
    assert not used.exists(), used.read_text()
    assert host.tools.committer == "python-iptables 1.2.0"
    assert host.tools.commits == len(committed) >= len(rules)
    dnat = [line for line in _saved(lab, "nat") if "--dport 8080" in line and "-j DNAT" in line]
    assert len(dnat) == 1
    assert "--dport 8080" in "".join(committed)
    lab.drop(host, *(r for r in rules[2] if not isinstance(r, Sysctl)))
    assert "--dport 8080" not in "\n".join(_saved(lab, "nat"))
    assert not used.exists()
    monkeypatch.setattr(iptables, "MOST", 0)  # now it is the tool that would commit
    with pytest.raises(KernelError):
        lab.make(host, *(r for r in rules[2] if not isinstance(r, Sysctl)))
    assert "--dport 8080" in used.read_text()


def _ipset(*args):
    """There is no ipset tool here: pyroute2 in a process of its own."""
    code = "import sys; from pyroute2 import IPSet; IPSet().create(sys.argv[2], stype=sys.argv[3])"
    return (sys.executable, "-c", code, *args)


def test_ipv6_goes_the_same_way(lab, committer):
    lines = ("-N DOCKER", "-A FORWARD -s fd00::/8 -i br0 -j DOCKER", "-A DOCKER -p tcp -j DROP")
    committer.commit(6, _text("filter", *lines), 5)
    out = lab.run("ip6tables-legacy-save")
    assert [x for x in out.splitlines() if x.startswith("-A")] == list(lines[1:])


def test_only_tables_named_in_a_commit_are_created(lab, committer):
    lines = ("-N DOCKER", "-A PREROUTING -j DOCKER", "-A DOCKER -g DOCKER2", "-N DOCKER2")
    text = _text("nat", lines[0], lines[3], *lines[1:3])
    committer.commit(4, text, 5)
    assert iptables.legacy_tables(lab.home, 4) == ("nat",)


def test_positions_are_those_of_the_tool(lab, committer):
    at = ["-A FORWARD -s 10.0.0.1/32 -j DROP", "-I FORWARD 1 -s 10.0.0.2/32 -j DROP",
          "-I FORWARD -s 10.0.0.3/32 -j DROP", "-I FORWARD 3 -s 10.0.0.4/32 -j DROP",
          "-I FORWARD 5 -s 10.0.0.5/32 -j DROP"]  # fmt: skip
    committer.commit(4, _text("filter", *at), 5)
    assert [line[-12] for line in _saved(lab, "filter")] == list("32415")


@pytest.mark.parametrize(
    ("lines", "blamed"),
    [
        (["-N A", "-N A"], 3),
        (["-N A", "-A FORWARD -j ACCEPT", "-X B"], 4),
        (["-A FORWARD -j ACCEPT", "-D FORWARD -j DROP"], 3),
        (["-A NOWHERE -j DROP"], 2),
        (["-I FORWARD 3 -j DROP"], 2),
        (["-N A", "-A FORWARD -j A", "-X A"], 4),
        (["-N A", "-A FORWARD -j A", "-A A -j A"], 5),  # a loop: only the commit detects it
    ],
)
def test_the_line_to_blame_is_named_and_nothing_was_done(lab, committer, lines, blamed):
    with pytest.raises(Refused) as e:
        committer.commit(4, _text("filter", *lines), 5)
    assert e.value.line == blamed
    assert _saved(lab, "filter") == []
    assert ":A" not in lab.run("iptables-legacy-save", "-t", "filter")


@pytest.mark.parametrize(
    "arguments",
    ["-m nosuch --x -j DROP", "-m tcp --dport 80 -j DROP", "-j NOSUCH", "-p tcp --dport 80,81",
     "-m conntrack --ctstate MAYBE -j DROP", "-f -j DROP", "-s 1.2.3.4,1.2.3.5 -j DROP"],
)  # fmt: skip
def test_what_is_beyond_it_is_left_to_the_tool_untouched(lab, committer, arguments):
    with pytest.raises((Inexpressible, Refused)):
        committer.commit(4, _text("filter", "-N A", f"-A FORWARD {arguments}"), 5)
    assert ":A" not in lab.run("iptables-legacy-save", "-t", "filter")
    committer.commit(4, _text("filter", "-A FORWARD -j DROP"), 5)  # and it goes on working
    assert _saved(lab, "filter") == ["-A FORWARD -j DROP"]


def test_a_table_that_is_none_is_left_to_the_tool(lab, committer):
    with pytest.raises(Inexpressible, match="nosuch"):
        committer.commit(4, _text("nosuch", "-N A"), 5)
    committer.commit(4, _text("filter", "-N A"), 5)


def test_the_tools_write_it_where_python_iptables_cannot(lab):
    tools = Tools("legacy", lab.home)
    tools.restore(4, _text("filter", "-A FORWARD -s 1.2.3.4,1.2.3.5 -j DROP"))
    assert len(_saved(lab, "filter")) == 2
    with pytest.raises(RestoreFailed, match="NOSUCH") as e:
        tools.restore(4, _text("filter", "-A FORWARD -j ACCEPT", "-A FORWARD -j NOSUCH"))
    assert e.value.line == 3
    tools.restore(4, _text("filter", "-F FORWARD"))
    assert _saved(lab, "filter") == []
    assert tools.without() == ""
    assert tools.committer == "python-iptables 1.2.0"
    tools.close()


def test_a_legacy_table_is_read_again_only_if_it_has_changed(lab, monkeypatch):
    tools, runs = Tools("legacy", lab.home), []
    run = iptables.run
    monkeypatch.setattr(iptables, "run", lambda *a: runs.append(a) or run(*a))
    lab.run("iptables-legacy", "-A", "FORWARD", "-j", "DROP")
    for _ in range(2):
        assert [r.spec for r in tools.save(4, "filter").rules] == ["-j DROP"]
    assert len(runs) == 1
    lab.run("iptables-legacy", "-R", "FORWARD", "1", "-j", "ACCEPT")
    assert [r.spec for r in tools.save(4, "filter").rules] == ["-j ACCEPT"]
    tools.close()


def test_writers_of_either_kind_lose_nothing_to_each_other(lab, committer):
    """Three loops of `iptables-legacy -w` and our commits at once, 600 of each."""
    loop = (
        "for i in $(seq 200); do iptables-legacy -w 20 -t nat -I DOCKER -p udp --dport $i "
        "-s 10.9.0.{n} -j RETURN || exit 1; done"
    )
    committer.commit(4, _text("nat", "-N DOCKER"), 5)
    processes = [
        subprocess.Popen(["nsenter", f"--net={lab.home}", "sh", "-c", loop.format(n=n)])
        for n in range(3)
    ]
    try:
        for i in range(600):
            line = f"-A DOCKER -p tcp -m tcp --dport {i + 1} -j ACCEPT"
            committer.commit(4, _text("nat", line), 20)
        assert [p.wait(120) for p in processes] == [0, 0, 0]
    finally:
        for p in processes:
            p.kill()
            p.wait()
    saved = _saved(lab, "nat")
    assert len([s for s in saved if "tcp" in s]) == 600
    assert len([s for s in saved if "udp" in s]) == 600
    assert len(set(saved)) == 1200


def test_a_writer_that_takes_no_lock_makes_us_try_again(lab, committer, monkeypatch):
    elsewhere = {**os.environ, "XTABLES_LOCKFILE": f"/run/{lab.name}.lock"}
    loop = "for i in $(seq 200); do iptables-legacy -I FORWARD -p udp --dport $i; done"
    other = subprocess.Popen(["nsenter", f"--net={lab.home}", "sh", "-c", loop], env=elsewhere)
    refused = []
    try:
        for i in range(200):
            line = f"-A FORWARD -p tcp -m tcp --dport {i + 1} -j ACCEPT"
            while True:
                try:
                    committer.commit(4, _text("filter", line), 5)
                    break
                except Refused as e:  # five times in a row: it says so
                    refused.append(e.errno)
        other.wait(60)
    finally:
        other.kill()
        other.wait()
        Path(elsewhere["XTABLES_LOCKFILE"]).unlink(missing_ok=True)
    assert len([s for s in _saved(lab, "filter") if "tcp" in s]) == 200
    assert set(refused) <= {errno.EAGAIN}


def test_a_lock_that_is_held_is_waited_for_so_long_and_not_longer(lab, monkeypatch):
    path = f"/run/{lab.name}.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", path)
    committer = Committer(lab.home)
    committer.commit(4, _text("filter", "-N A"), 5)
    with open(path) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        start = time.monotonic()
        with pytest.raises(Refused, match=f"held {path} for 0.3 s") as e:
            committer.commit(4, _text("filter", "-N B"), 0.3)
        assert time.monotonic() - start > 0.25
        assert e.value.errno == errno.EAGAIN
    committer.commit(4, _text("filter", "-N B"), 0.3)
    committer.close()
    os.unlink(path)


BADLY = """
import os, sys, time
from netkit.kernel.iptables.legacy import __main__, commit
good = commit.Staged.commit
def bad(self, *_):
    {body}
commit.Staged.commit = bad
__main__.main()
"""
CRASHES = {
    "before it begins": "os.kill(os.getpid(), 11)",
    "before the commit": "os.kill(os.getpid(), 11)",
    "after the commit": "good(self); os.kill(os.getpid(), 11)",
}


def _crashing(lab, when):
    code = BADLY.format(body=CRASHES[when])
    if when == "before it begins":
        code = code.replace("commit.Staged.commit =", "commit.Staged.__init__ =")
    return Tools("legacy", lab.home, _committing(lab, code))


def _committing(lab, code):
    root = Path(__file__).parents[2]
    return Committer(lab.home, ("env", f"PYTHONPATH={root}", sys.executable, "-c", code))


@pytest.mark.parametrize("when", CRASHES)
def test_a_crash_is_reported_once_and_the_rules_get_there(lab, when, caplog):
    host = lab.host("legacy")
    host._rules._tools = _crashing(lab, when)
    rules = [rule("filter", "FORWARD", f"-s 10.0.0.{i}/32 -j DROP", rank=i) for i in range(5)]
    with caplog.at_level(logging.WARNING):
        lab.make(host, *rules[:3])
        lab.make(host, *rules)
    assert len(_saved(lab, "filter")) == 5
    assert len(caplog.records) == 1
    assert "killed by signal 11" in caplog.text
    assert "killed by signal 11" in host._rules.tools.without()
    assert lab.make(lab.host("legacy"), *rules) == ()


def test_a_commit_that_python_iptables_lost_is_noticed(lab):
    code = (
        "import iptc; iptc.Table.commit = lambda self: None\n"
        "from netkit.kernel.iptables.legacy import __main__; __main__.main()"
    )
    committer = _committing(lab, code)
    with pytest.raises(Refused, match="has other rules"):
        committer.commit(4, _text("filter", "-A FORWARD -j DROP"), 5)


LATE = """
import iptc
from iptc import ip4tc
from netkit.kernel.iptables.legacy import __main__
good, failures = iptc.Table.commit, [22, 11]
def commit(self):
    good(self)
    if failures:
        ip4tc._get_errno_loc()[0] = failures.pop()
        raise iptc.IPTCError("can't commit: raised after the fact")
iptc.Table.commit = commit
__main__.main()
"""


def test_a_commit_that_fails_after_it_took_effect_is_not_done_again(lab):
    """libiptc replaces the table, then adds up counters, and may fail at that."""
    committer = _committing(lab, LATE)
    for source in ("10.0.0.1/32", "10.0.0.2/32"):  # once with EAGAIN, once with EINVAL
        committer.commit(4, _text("filter", f"-A FORWARD -s {source} -j DROP"), 5)
    assert len(_saved(lab, "filter")) == 2


def test_a_rule_that_moves_is_in_its_new_place_whenever_the_commit_fails(lab):
    moved = ("-A FORWARD -s 10.0.0.1/32 -j DROP", "-A FORWARD -s 10.0.0.2/32 -j DROP")
    lab.run("iptables-legacy-restore", text=_text("filter", *moved))
    code = LATE.replace("[22, 11]", "[11]")
    move = (moved[0].replace("-A", "-D"), moved[0])
    _committing(lab, code).commit(4, _text("filter", *move), 5)
    assert _saved(lab, "filter") == [moved[1], moved[0]]
    lab.run("iptables-legacy-restore", text=_text("filter", *moved))
    code = code.replace("    good(self)\n    if", "    if not failures: return good(self)\n    if")
    _committing(lab, code).commit(4, _text("filter", *move), 5)
    assert _saved(lab, "filter") == [moved[1], moved[0]]


def test_a_process_that_hangs_is_killed_and_the_rules_get_there(lab, monkeypatch):
    monkeypatch.setattr("netkit.kernel.iptables.legacy.client.START", 0.5)
    committer = Committer(lab.home, ("sleep", "1000"))
    tools = Tools("legacy", lab.home, committer)
    tools.restore(4, _text("filter", "-A FORWARD -j DROP"))
    assert _saved(lab, "filter") == ["-A FORWARD -j DROP"]
    assert "did not answer in time, and was killed" in tools.without()
    assert _alive(committer) is None


def test_a_namespace_without_python_iptables_is_served_by_the_tool(lab):
    code = (
        "import sys, runpy; sys.modules['iptc'] = None; "
        "runpy.run_module('netkit.kernel.iptables.legacy', run_name='__main__')"
    )
    tools = Tools("legacy", lab.home, _committing(lab, code))
    tools.restore(4, _text("filter", "-A FORWARD -j DROP"))
    assert _saved(lab, "filter") == ["-A FORWARD -j DROP"]
    assert "does not work here" in tools.without()
    assert tools.committer.startswith("iptables-legacy-restore, python-iptables does not work")


@pytest.mark.parametrize("body", ["time.sleep(99)", "good(self); time.sleep(99)"])
def test_a_commit_that_hangs_is_cut_short_and_the_rules_are_there_once(lab, monkeypatch, body):
    monkeypatch.setattr("netkit.kernel.iptables.legacy.client.ANSWER", 0.5)
    monkeypatch.setattr(iptables, "LOCK_WAIT", 1)
    host = lab.host("legacy")
    host._rules._tools = Tools("legacy", lab.home, _committing(lab, BADLY.format(body=body)))
    rules = [rule("filter", "FORWARD", f"-s 10.0.0.{i}/32 -j DROP", rank=i) for i in range(3)]
    start = time.monotonic()
    lab.make(host, *rules)
    assert time.monotonic() - start < 90  # and not the 99 seconds that it hangs
    assert len(_saved(lab, "filter")) == 3
    assert "was killed" in host.tools.committer


@pytest.mark.parametrize(("version", "used"), [((1, 8, 9), True), ((1, 8, 11), False)])
def test_it_is_not_even_started_with_an_iptables_that_crashes_it(lab, monkeypatch, version, used):
    monkeypatch.setattr(iptables, "version", lambda *_: version)
    tools = Tools("legacy", lab.home)
    tools.restore(4, _text("filter", "-A FORWARD -j DROP"))
    assert _saved(lab, "filter") == ["-A FORWARD -j DROP"]
    assert (_alive(tools._committer) is not None) == used
    assert ("1.8.11" in tools.without()) != used
    tools.close()


def test_long_texts_are_not_its_business(lab):
    tools = Tools("legacy", lab.home)
    lines = [f"-A FORWARD -p tcp -m tcp --dport {i} -j DROP" for i in range(1, 1001)]
    tools.restore(4, _text("filter", *lines))
    assert _saved(lab, "filter") == lines
    assert _alive(tools._committer) is None


def test_the_process_ends_with_its_committer(lab):
    first = Committer(lab.home)
    first.commit(4, _text("filter", "-N A"), 5)
    popen = _alive(first)
    assert popen.poll() is None
    first.close()
    assert popen.poll() == 0
    first.commit(4, _text("filter", "-N B"), 5)  # on demand, again
    popen = _alive(first)
    del first
    gc.collect()
    assert popen.poll() == 0


def test_it_ends_with_a_daemon_that_was_killed(lab, tmp_path):
    code = (
        "import sys, time; from netkit.kernel.iptables.legacy.client import Committer\n"
        "c = Committer(sys.argv[1]); c.commit(4, '*filter\\n-N A\\nCOMMIT\\n', 5)\n"
        "print(c._process.popen.pid, flush=True); time.sleep(100)"
    )
    root = Path(__file__).parents[2]
    daemon = subprocess.Popen(
        [sys.executable, "-c", code, lab.home], stdout=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert daemon.stdout is not None
        child = int(daemon.stdout.readline())
        assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
    until = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_a_quote_in_a_rule_survives_a_restart_of_the_daemon(lab):
    odd = Rule(
        table="filter",
        chain="FORWARD",
        args=("-m", "string", "--algo", "bm", "--string", 'it\'s "a" \\b', "-j", "DROP"),
        owner=NET,
    )
    lab.make(lab.host("legacy"), odd)
    fresh = lab.host("legacy")
    assert 'it\'s "a" \\b' in fresh.observe([odd.key])[odd.key].args
    lab.drop(fresh, odd)
    assert _saved(lab, "filter") == []
