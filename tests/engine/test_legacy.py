"""A host with legacy iptables; datagrams to a port that another container had before."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import missing
from tests.engine.daemon import Engine, alone, netkit_only
from tests.engine.wire import HOST, connected, inside, run

pytestmark = [pytest.mark.root, pytest.mark.engine, netkit_only("no choice of iptables")]
ASK = "import socket,sys; s=socket.socket(2,2); s.bind(('',4711)); s.settimeout(2);" \
    "s.sendto(b'?',(sys.argv[1],8098)); print(s.recv(99).decode())"  # fmt: skip
ANSWER = "import socket,sys; s=socket.socket(2,2); s.bind(('',53))\n" \
    "while 1: s.sendto(sys.argv[1].encode(), s.recvfrom(9)[1])"  # fmt: skip


@pytest.fixture
def legacy_engine() -> Iterator[Engine]:
    if why := missing():
        pytest.skip(why)
    with alone("--firewall-backend", "iptables-legacy") as engine:
        yield engine


def _committing(engine: Engine) -> list[int]:
    """Return the committer processes of this daemon: python-iptables, in the engine's namespace."""
    home = Path(f"/run/netns/{engine.netns}").stat().st_ino
    out = []
    for p in Path("/proc").glob("[0-9]*"):
        try:
            mine = (p / "ns/net").stat().st_ino == home
            if mine and b"netkit.kernel.iptables.legacy" in (p / "cmdline").read_bytes():
                out.append(int(p.name))
        except OSError:
            continue
    return out


def _saved(engine: Engine, variant: str) -> str:
    done = run(engine.netns, f"iptables-{variant}-save")
    return "\n".join(x for x in done.stdout.splitlines() if x.startswith("-A"))


def test_ports_are_published_on_a_legacy_host_over_kills_and_restarts(
    legacy_engine: Engine,
) -> None:
    engine = legacy_engine
    name = engine.up("-p", "8080:80", "busybox", "httpd", "-f", "-h", "/etc")
    url = f"http://{HOST}:8080/hostname"
    assert connected(engine.wire.neighbour, url)
    assert "--to-destination" in _saved(engine, "legacy")
    assert "netkit:" not in _saved(engine, "nft")
    before = _saved(engine, "legacy")
    (first,) = _committing(engine)
    engine.kill9()
    until = time.monotonic() + 60
    while _committing(engine) and time.monotonic() < until:
        time.sleep(0.05)
    assert _committing(engine) == []
    assert connected(engine.wire.neighbour, url)
    engine.restart()
    assert _saved(engine, "legacy") == before
    engine.docker("rm", "-f", name)
    assert "--to-destination" not in _saved(engine, "legacy")
    assert first not in _committing(engine)
    assert engine.stop() == 0
    assert _committing(engine) == []


def test_a_client_that_keeps_sending_datagrams_reaches_the_next_container(engine: Engine) -> None:
    """The client uses one port, hence one flow for the kernel; both requests are within 30 s."""
    python = ("-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro")
    answers = []
    for who in ("first", "second"):
        name = engine.up(
            "-p", "8098:53/udp", *python, "busybox", "/usr/bin/python3", "-c", ANSWER, who
        )
        answers.append(_ask(engine))
        if who == "first":
            engine.docker("rm", "-f", name)
            engine.sleeper()  # which gets its address, and publishes nothing
    assert answers == ["first", "second"]


def _ask(engine: Engine) -> str:
    for _ in range(20):
        argv = inside(engine.wire.neighbour, "python3", "-c", ASK, HOST)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.1)
    return ""
