"""Hints about firewall rules, from both kinds of tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from netkit.kernel.firewall.watch import PROC_PID_INIT_INO, RuleWatch
from netkit.kernel.iptables import tools as iptables
from netkit.kernel.iptables.legacy_fingerprint import fingerprint
from netkit.model import Chain
from tests.netns.conftest import NET, Lab, rule

pytestmark = pytest.mark.root


@pytest.fixture(params=["nft", "legacy"])
def watch(request: pytest.FixtureRequest, lab: Lab) -> Iterator[tuple[RuleWatch, str]]:
    w = RuleWatch(lab.home, legacy=request.param == "legacy")
    yield w, f"iptables-{request.param}"
    w.close()


def test_a_change_is_reported_and_quiet_is_not(lab: Lab, watch: tuple[RuleWatch, str]) -> None:
    w, tool = watch
    assert not w.wait(0.3)
    for line in ("-A FORWARD -j DROP", "-R FORWARD 1 -j ACCEPT", "-t nat -N MINE", "-F"):
        lab.run(tool, *line.split())
        begin = time.monotonic()
        assert w.wait(5), line
        assert time.monotonic() - begin < 2
        assert not w.wait(0.6), line


@pytest.mark.skipif(
    os.stat("/proc/self/ns/pid").st_ino != PROC_PID_INIT_INO,
    reason="nf_tables reports ids of the first pid namespace, and script/apart makes another: here "
    "every change is a hint.  tests/unit/netkit/kernel/firewall/test_watch.py has the same on "
    "messages of a stand-in; run this file without script/apart, as root, for the kernel's",
)
def test_what_we_change_ourselves_is_no_hint(lab: Lab) -> None:
    w = RuleWatch(lab.home, legacy=False)
    try:
        for line in ("-N MINE", "-A MINE -j DROP", "-F MINE", "-X MINE"):
            assert iptables.run(lab.home, ["iptables-nft", *line.split()]).returncode == 0
        host = lab.host()
        some = Chain(table="filter", name="DOCKER", owner=NET), rule("filter", "DOCKER", "-j DROP")
        with ThreadPoolExecutor(1) as pool:  # the kernel reports the thread, not the process
            for change in (lab.make, lab.drop):
                pool.submit(change, host, *some).result()
        begin = time.monotonic()
        assert not w.wait(0.6)
        assert time.monotonic() - begin >= 0.6, (
            "waking counts as a report: a waiting caller looks then"
        )
        iptables.run(lab.home, ["iptables-nft", "-N", "OURS"])
        lab.run("iptables-nft", "-N", "THEIRS")
        assert w.wait(5)
    finally:
        w.close()


def test_a_legacy_table_that_is_changed_back_after_a_change_of_ours_is_a_hint(lab: Lab) -> None:
    tools = iptables.Tools("legacy", lab.home)
    lab.run("iptables-legacy", "-N", "MINE")
    w = RuleWatch(lab.home, legacy=True, commits=lambda: tools.commits)
    try:
        tools.restore(4, "*filter\n-A MINE -j DROP\nCOMMIT\n")
        assert [r.spec for r in tools.save(4, "filter").rules] == ["-j DROP"]
        lab.run("iptables-legacy", "-F", "MINE")
        assert w.wait(5)
        assert tools.save(4, "filter").rules == ()
        assert not w.wait(0.6)
    finally:
        w.close()
        tools.close()


def test_packets_that_are_counted_are_no_change(lab: Lab, watch: tuple[RuleWatch, str]) -> None:
    w, tool = watch
    lab.run(tool, "-A", "OUTPUT", "-p", "icmp", "-j", "ACCEPT")
    w.wait(2)
    w.wait(0.6)
    lab.run("busybox", "ping", "-c", "2", "127.0.0.1")
    assert "[0:0] -A OUTPUT" not in lab.run(f"{tool}-save", "-c")
    assert not w.wait(0.6)


def test_a_waiting_thread_is_woken(watch: tuple[RuleWatch, str]) -> None:
    w, _ = watch
    w.wake()
    begin = time.monotonic()
    assert not w.wait(60)
    assert time.monotonic() - begin < 30


def test_observing_creates_no_table(lab: Lab) -> None:
    w = RuleWatch(lab.home, legacy=True)
    w.wait(0.3)
    w.close()
    names = lab.run("cat", "/proc/net/ip_tables_names")
    assert names == ""
    assert fingerprint(lab.home, []) == {}
