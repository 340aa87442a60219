"""Measure the cost of the filter at isolated ports: one port with it, one without, in turn.

A sample is the share of the time without it: 1.1 is a tenth more.  Both containers are alike, as
netkit makes them with icc=false, on one bridge made by hand; no engine guards it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from socket import AF_INET, SOCK_STREAM

from bench.flows import Flow
from bench.handmade import router
from bench.measures import Measure, Sample, Scale
from bench.peers import Peer
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.model import BridgeRedirect
from netkit.reconcile.plan import Op

BLOCK = 1 << 20  # bytes handed over at once
AIM = 1.1


@contextmanager
def cells(target: str) -> Iterator[tuple[Flow, Flow]]:
    """Measure from containers with and without the filter to `target`: bridge or outside."""
    with ExitStack() as stack:
        home, one, two, outside = stack.enter_context(router())
        for n, ns in enumerate((one, two), 1):
            mac = _mac(ns)
            at = ("nsenter", f"--net={home}", "--", "bridge")
            for words in (
                f"link set dev p{n} isolated on learning off locked on",
                f"fdb replace {mac} dev p{n} master static sticky",
            ):
                subprocess.run([*at, *words.split()], check=True, timeout=30)
            if n == 1:
                redirect = BridgeRedirect(dev="p1", bridge="br0", mac=mac)
                Host(home).apply([Op(None, redirect)])
        server, address = (home, "10.45.0.254") if target == "bridge" else (outside, "10.46.0.2")
        yield Flow(one, server, address), Flow(two, server, address)


def _mac(ns: str) -> str:
    argv = ["nsenter", f"--net={ns}", "--", "ip", "-br", "link", "show", "eth0"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.split()[2]


def transfer(ends: Flow, size: int) -> float:
    """Seconds for so many bytes on one TCP connection."""
    with netns.open_socket(ends.server, AF_INET, SOCK_STREAM) as listener:
        listener.bind((ends.address, 0))
        listener.listen(1)
        took: list[float] = []

        def receive() -> None:
            connection, _ = listener.accept()
            begin, left, room = time.perf_counter(), size, bytearray(BLOCK)
            with connection:
                while left > 0 and (got := connection.recv_into(room)):
                    left -= got
            took.append(time.perf_counter() - begin)

        thread = threading.Thread(target=receive)
        thread.start()
        with netns.open_socket(ends.client, AF_INET, SOCK_STREAM) as sending:
            sending.settimeout(60)
            sending.connect(listener.getsockname())
            block = bytes(BLOCK)
            for _ in range(size // BLOCK):
                sending.sendall(block)
        thread.join()
    return took[0]


def share(target: str, act: Callable[[Flow, int], float], amount: int) -> Sample:
    def sample(peer: Peer, scale: Scale) -> list[float]:
        if peer.name != "netkit":
            return []
        with cells(target) as (filtered, plain):
            for ends in (filtered, plain):
                act(ends, max(1, amount // 10))  # warm-up: ARP, forwarding tables
            return [act(filtered, amount) / act(plain, amount) for _ in range(scale.repeats)]

    return sample


def measures(scale: Scale) -> list[Measure]:
    small = scale.repeats < 5
    kinds: tuple[tuple[str, Callable[[Flow, int], float], int], ...] = (
        ("round trip", Flow.round_trip, 500 if small else 3000),
        ("transfer", transfer, (64 if small else 512) * BLOCK),
    )
    return [
        Measure(f"filter at isolated ports: {what} to {target}", "share",
                share(target, act, amount), f"{AIM}", most=AIM)
        for target in ("bridge", "outside")
        for what, act, amount in kinds
    ]  # fmt: skip
