"""Schedules of labs: what goes wrong does, recovery is measured, and nothing stays wrong."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from netkit.lab import building
from netkit.lab.model import UNDERLAY, Places
from netkit.lab.running import RunningLab
from tests.labs.conftest import CLONE, netkit, root_network, traces
from tests.labs.udp import send

HOST = "daemon: false, interfaces: {{eth0: {{segment: lan, address: 10.0.0.{}/24{}}}}}"
TWO = f"""
underlay: {{lan: {{}}}}
hosts:
  a: {{{HOST.format(1, "")}}}
  b: {{{HOST.format(2, ", impair: {delay: 2ms}")}}}
checks: [a <-> b icmp ok]
schedule:
"""


def written(folder: Path, schedule: str) -> Path:
    made = folder / f"sched-{secrets.token_hex(3)}"
    made.mkdir()
    (made / "lab.yml").write_text(TWO + schedule)
    return made


def checked(folder: Path) -> tuple[int, dict[str, Any]]:
    done = netkit("lab", "check", str(folder), "--format", "json", check=False)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def test_times_are_as_asked_and_recovery_is_measured(tmp_path: Path) -> None:
    before = root_network()
    folder = written(
        tmp_path,
        """
  cut: {at: 200ms, do: link a-b down for 1s, recover: [a -> b], within: 3s}
  lossy: {at: 3s, do: impair b loss 50% from a for 1s, recover: [a -> b], within: 500ms}
""",
    )
    code, report = checked(folder)
    cut, lossy = report["schedule"]
    assert (code, report["ok"]) == (0, True), report
    assert cut["began"] >= 0.2
    assert cut["ended"] >= 1.2
    assert cut["ended"] - cut["began"] == pytest.approx(1.0, abs=0.5)
    (path,) = cut["recovery"]
    assert path["lost"] > 20  # of a hundred a second, less on a busy machine
    assert path["lost"] >= 0.9 * path["sent"]  # those under way as the link goes down may arrive
    assert path["outage"] == pytest.approx(1.0 + path["recovery"], abs=0.5)
    (path,) = lossy["recovery"]
    assert 0.25 <= path["lost"] / path["sent"] <= 0.75
    assert traces(folder.name) == []
    assert root_network() == before


def test_what_does_not_hold_meanwhile_or_recovers_too_late_fails(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        """
  slow: {do: impair a delay 600ms from a for 500ms, recover: [a -> b], within: 0ms}
  hidden: {at: 2s, do: "partition {a}|{b} for 2s", during: [a -> b icmp ok]}
  short: {at: 5s, do: impair a delay 1ms for 100ms, during: [b -> a tcp/9 blocked]}
""",
    )
    code, report = checked(folder)
    slow, hidden, short = report["schedule"]
    assert (code, report["ok"]) == (1, False)
    assert not slow["ok"]
    assert slow["recovery"][0]["recovery"] > 0
    assert not hidden["ok"]
    assert hidden["during"][0]["result"] == "fail"
    assert not short["ok"]
    assert short["overtime"] > 0.5
    assert {c["result"] for c in report["after"]} == {"pass"}


def test_it_is_not_run_where_checks_do_not_hold_before(tmp_path: Path) -> None:
    folder = written(tmp_path, "  cut: {do: link lan down for 9s}\n")
    text = (folder / "lab.yml").read_text().replace("icmp ok", "icmp blocked")
    (folder / "lab.yml").write_text(text)
    code, report = checked(folder)
    assert (code, report["schedule"], report["after"]) == (1, [], None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_schedule_that_is_cut_short_is_mended(tmp_path: Path, number: signal.Signals) -> None:
    """At once by itself; after a kill by the next `up`."""
    folder = written(
        tmp_path,
        """
  apart: {do: "partition {a}|{b}"}
  cut: {do: link lan down}
  end: {at: 60s, do: impair a loss 1% for 1s}
""",
    )
    places, one = Places(lab=folder.name), RunningLab(str(folder))
    one.up()
    try:
        runs = subprocess.Popen(
            ["env", "--default-signal=INT", sys.executable, "-m", "netkit", "lab", "check",
             str(folder)], cwd=CLONE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while "lan~1" not in building.run(places, UNDERLAY, "ip -br link"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        runs.send_signal(number)
        runs.wait(timeout=20)
        if number == signal.SIGKILL:
            assert "lan~1" in building.run(places, UNDERLAY, "ip -br link")
            one.up()
        left = building.run(places, UNDERLAY, "ip -br link")
        assert "~1" not in left
        assert not os.path.exists(places.faulty)
        assert len(send(one.a.netns, one.b.netns, "10.0.0.2", 20, 0.001).packets) == 20
    finally:
        one.down()
