"""The leak oracle sees each kind of leak: one is planted, and has to be named."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import oracle
from tests.engine import wire
from tests.engine.daemon import Engine

ID = "f00d" * 16


@contextmanager
def planted(engine: Engine, kind: str) -> Iterator[str]:
    """Plant a leak of the kind given; yield what the oracle's line must contain."""
    netns = engine.netns
    match kind:
        case "links":
            wire.ip("-n", netns, "link", "add", "veth-left", "type", "bridge")
            yield "veth-left"
            wire.ip("-n", netns, "link", "del", "veth-left")
        case "addresses":
            wire.ip("-n", netns, "addr", "add", "10.99.99.9/32", "dev", "lo")
            yield "10.99.99.9/32"
            wire.ip("-n", netns, "addr", "del", "10.99.99.9/32", "dev", "lo")
        case "routes":
            wire.ip("-n", netns, "route", "add", "198.51.100.0/24", "via", wire.NEIGHBOUR)
            yield "198.51.100.0/24"
            wire.ip("-n", netns, "route", "del", "198.51.100.0/24")
        case "rules" | "legacy rules":
            tool = "iptables" if kind == "rules" else "iptables-legacy"
            rule = ("-s", "198.51.100.77", "-j", "DROP")
            assert wire.run(netns, tool, "-A", "INPUT", *rule).returncode == 0
            yield "198.51.100.77"
            wire.run(netns, tool, "-D", "INPUT", *rule)
        case "listeners":
            listener = wire.Echo(netns, "127.0.0.1", 8999)
            yield "127.0.0.1:8999"
            listener.close()
        case "namespaces" | "mounts":
            path = engine.rundir / "netns" / "left"
            path.parent.mkdir(exist_ok=True)
            path.touch()
            subprocess.run(["mount", "--bind", f"/run/netns/{netns}", str(path)], check=True)
            yield str(path)
            subprocess.run(["umount", str(path)], check=True)
            path.unlink()
        case "processes":
            left = subprocess.Popen(["sh", "-c", "sleep 60; :", str(engine.rundir / ID)])
            yield ID
            left.kill()
            left.wait()
        case "cgroups":
            folder = next(p for p in (oracle.CGROUPS / "pids", oracle.CGROUPS) if p.is_dir()) / ID
            folder.mkdir()
            yield ID[:12]
            folder.rmdir()
        case "files":
            path = engine.root / ID
            path.mkdir()
            yield ID
            path.rmdir()


@pytest.mark.parametrize(
    "kind",
    [
        "links", "addresses", "routes", "rules", "legacy rules", "listeners", "namespaces",
        "mounts", "processes", "cgroups", "files",
    ],
)  # fmt: skip
def test_a_leak_is_named(engine: Engine, kind: str) -> None:
    before = oracle.snapshot(engine)
    with planted(engine, kind) as mark, pytest.raises(AssertionError) as found:
        oracle.assert_clean(before, lambda: oracle.snapshot(engine), within=0)
    lines = [line for line in str(found.value).splitlines() if mark in line]
    assert lines
    assert any(line.strip().startswith(kind.rsplit(maxsplit=1)[-1]) for line in lines)
    oracle.assert_clean(before, lambda: oracle.snapshot(engine))


def test_leaked_descriptors_are_counted() -> None:
    def snapshot(descriptors: int) -> oracle.Snapshot:
        empty = frozenset[str]()
        counted = oracle.Counter({"socket:": descriptors})
        return oracle.Snapshot(*[empty] * 10, descriptors=counted)

    assert not snapshot(10).leaked(snapshot(10 + oracle.FD_SLACK))
    assert snapshot(10).leaked(snapshot(11 + oracle.FD_SLACK))


def test_a_running_container_is_not_clean(engine: Engine) -> None:
    before = oracle.snapshot(engine)
    name = engine.sleeper()
    after = oracle.snapshot(engine)
    parts = {line.partition(":")[0] for line in before.leaked(after)}
    assert {"links", "processes"} <= parts
    engine.docker("rm", "-f", name)


def test_what_was_there_before_must_stay(engine: Engine) -> None:
    wire.ip("-n", engine.netns, "link", "add", "admins", "type", "bridge")
    before = oracle.snapshot(engine)
    wire.ip("-n", engine.netns, "link", "del", "admins")
    with pytest.raises(AssertionError, match="missing links: admins"):
        oracle.assert_clean(before, lambda: oracle.snapshot(engine), within=0)


def test_a_leak_that_goes_in_time_is_none(engine: Engine) -> None:
    before = oracle.snapshot(engine)
    slow = subprocess.Popen(["sh", "-c", "sleep 1; :", str(engine.rundir / ID)])
    begin = time.monotonic()
    oracle.assert_clean(before, lambda: oracle.snapshot(engine))
    assert time.monotonic() - begin > 0.5
    assert slow.wait() == 0
