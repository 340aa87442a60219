"""What a stranger's flood costs two peers: throughput of one TCP flow between their containers.

50,000 datagrams of garbage a second come to the receiving host from a third one, of each length and
type that the protocol has and others.  All hosts share the processors of one machine, so sending
them costs throughput as well: what is compared with is the same flood, sent to a fourth host that
drops it in a socket's filter, in turn with the other.
"""

from __future__ import annotations

import secrets
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socket import AF_INET, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET

from bench.flows import Flow
from bench.overlays import THERE, Kind, Underlay, environment, underlay
from netkit.kernel import netns
from netkit.overlay.sleeve.sockets import SO_ATTACH_FILTER, attach, indexed

RATE = 50_000  # datagrams a second
PORT = 6783
VICTIM, ELSEWHERE = "10.97.1.2", "10.97.2.2"
GARBAGE = """
import random, socket, sys, time
chance, rate, end = random.Random(1), int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
sizes = (16, 48, 56, 200, 320, 800, 1200, 1472)
garbage = [bytes([k]) + chance.randbytes(n - 1) for k in range(9) for n in sizes]
s, sent, begin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0, time.monotonic()
s.connect((sys.argv[1], 6783))
while time.monotonic() < end:
    while sent < (time.monotonic() - begin) * rate:
        for _ in range(50):
            try:
                s.send(garbage[sent % len(garbage)])
            except OSError:
                pass
            sent += 1
    time.sleep(0.0005)
print(sent / (time.monotonic() - begin))
"""


@dataclass
class Samples:
    """Gbit/s, round by round; datagrams a second that were sent."""

    quiet: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    here: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.here, self.elsewhere, strict=True)]


@contextmanager
def _strangers(at: Underlay) -> Iterator[str]:
    """The namespace that floods, with a way to the receiving host and one to a fourth."""
    tag = secrets.token_hex(3)
    names = [f"nk-bf-{tag}-{each}" for each in ("stranger", "fourth")]
    places = [f"/run/netns/{name}" for name in names]
    try:
        for place in places:
            netns.create(place)
        _joined(places[0], "v0", "10.97.1.1", at.file(1), VICTIM)
        _joined(places[0], "v1", "10.97.2.1", places[1], ELSEWHERE)
        with netns.open_socket(places[1], AF_INET, SOCK_DGRAM) as sink:
            sink.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 16)
            attach(sink, SO_ATTACH_FILTER, indexed(()))
            sink.bind((ELSEWHERE, PORT))
            yield places[0]
    finally:
        for place in places:
            with suppress(OSError):
                netns.remove(place)


def _joined(one: str, dev: str, address: str, other: str, far: str) -> None:
    name = other.rpartition("/")[2]
    _ip(one, "link", "add", dev, "type", "veth", "peer", "name", "flood", "netns", name)
    for place, device, ip in ((one, dev, address), (other, "flood", far)):
        _ip(place, "addr", "add", f"{ip}/24", "dev", device)
        _ip(place, "link", "set", "dev", device, "up")


def _ip(place: str, *argv: str) -> None:
    subprocess.run(["nsenter", f"--net={place}", "ip", *argv], check=True, timeout=30)


def _sample(at: Underlay, stranger: str, target: str, seconds: float, into: Samples) -> float:
    flood = None
    if target:
        argv = [sys.executable, "-c", GARBAGE, target, str(RATE), str(seconds + 1)]
        flood = subprocess.Popen(
            ["nsenter", f"--net={stranger}", *argv], stdout=subprocess.PIPE, text=True
        )
    flow = Flow(client=at.end(0), server=at.end(1), address=THERE)
    try:
        found = flow.iperf(seconds, env=environment())
    finally:
        if flood is not None:
            into.sent.append(float(flood.communicate(timeout=60)[0]))
    return found["bits_per_second"] / 1e9


def measure(kind: Kind, rounds: int, seconds: float) -> Samples:
    """Rounds of three samples, in another order each time."""
    found = Samples()
    targets = {"quiet": "", "elsewhere": ELSEWHERE, "here": VICTIM}
    names = list(targets)
    with underlay(1500) as at, kind.way(at), _strangers(at) as stranger:
        Flow(client=at.end(0), server=at.end(1), address=THERE).iperf(1, env=environment())
        for turn in range(rounds):
            for name in names[turn % 3 :] + names[: turn % 3]:
                got = _sample(at, stranger, targets[name], seconds, found)
                getattr(found, name).append(got)
    return found


def table(kinds: Sequence[Kind], rounds: int, seconds: float) -> str:
    lines = [
        f"-- a flood of {RATE} datagrams a second, {rounds} rounds; TCP, one flow, Gbit/s: medians,"
        " and of all rounds the ratio of the last two (least to most)"
    ]
    for kind in kinds:
        try:
            got = measure(kind, rounds, seconds)
        except (RuntimeError, OSError, subprocess.SubprocessError, KeyError) as e:
            lines.append(f"{kind.name:24} failed: {e}"[:120])
            continue
        quiet, elsewhere, here, ratio = (
            statistics.median(each) for each in (got.quiet, got.elsewhere, got.here, got.ratios)
        )
        lines.append(
            f"{kind.name:24} without {quiet:.2f}  at another host {elsewhere:.2f}  at the peer"
            f" {here:.2f}  ratio {ratio:.3f} ({min(got.ratios):.3f} to {max(got.ratios):.3f}),"
            f" {statistics.median(got.sent) / 1e3:.0f}k a second sent"
        )
    return "\n".join([*lines, ""])
