"""The first packets between a container that was just started and another, each accounted for."""

from __future__ import annotations

import os
import struct
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from socket import AF_INET, IPPROTO_ICMP, SOCK_RAW

from netkit.client.endpoint import parse_host
from netkit.client.engine import Engine
from netkit.kernel import netns

ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence (RFC 792)


@dataclass(slots=True)
class Pings:
    """Which were answered, by number."""

    sent: int = 0
    first: float | None = None  # instant of the first answer, by time.perf_counter
    answered: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        """Those without an answer, but the last, which may still be on the way."""
        return len(set(range(max(self.answered, default=self.sent))) - self.answered)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    folded = int(total + (total >> 16))
    return ~folded & 0xFFFF


def _request(ident: int, number: int) -> bytes:
    bare = ECHO.pack(8, 0, 0, ident, number)
    return ECHO.pack(8, 0, _checksum(bare), ident, number)


def ping(
    namespace: str,
    address: str,
    *,
    every: float = 0.005,
    answers: int = 10,
    patience: float = 30,
) -> Pings:
    """Send one each `every` seconds until there are `answers`, for `patience` seconds at most."""
    found, ident = Pings(), int.from_bytes(os.urandom(2), "big")
    begin = time.perf_counter()
    with netns.open_socket(namespace, AF_INET, SOCK_RAW, IPPROTO_ICMP) as sock:
        while len(found.answered) < answers and time.perf_counter() < begin + patience:
            sock.sendto(_request(ident, found.sent), (address, 0))
            found.sent += 1
            turn = time.perf_counter() + every
            while len(found.answered) < answers and (left := turn - time.perf_counter()) > 0:
                sock.settimeout(left)
                try:
                    packet = sock.recv(2048)
                except TimeoutError:
                    break
                kind, _, _, theirs, sequence = ECHO.unpack_from(packet, (packet[0] & 15) * 4)
                if (kind, theirs) == (0, ident):
                    found.answered.add(sequence)
                    found.first = found.first or time.perf_counter()
    return found


def contact(
    near: Engine, far: Engine, network: str, *, image: str = "busybox", **how: float
) -> tuple[Pings, Pings, float]:
    """Start a container on `far` while one runs on `near`, and ping both ways from the answer on.

    Return the pings to the new one, those from it, and the instant of the answer.  The containers
    are removed.  `how`: as with `ping`.
    """
    ids: list[tuple[Engine, str]] = []
    try:
        for engine in (near, far):
            body = {"Image": image, "Cmd": ["sleep", "1000"],
                    "HostConfig": {"NetworkMode": network}}  # fmt: skip
            ids.append((engine, engine.post("/containers/create", body=body)["Id"]))
        near.post(f"/containers/{ids[0][1]}/start")
        one = _place(*ids[0], network)
        time.sleep(0.5)  # what this one makes known by itself has passed
        far.post(f"/containers/{ids[1][1]}/start")
        begin = time.perf_counter()
        return (*_both(one, _place(*ids[1], network), how), begin)
    finally:
        for engine, ident in ids:
            engine.delete(f"/containers/{ident}", {"force": "1"})


def _both(one: tuple[str, str], two: tuple[str, str], how: dict[str, float]) -> tuple[Pings, Pings]:
    found: dict[str, Pings] = {}

    def ask(namespace: str, address: str) -> None:
        found[namespace] = ping(namespace, address, **how)  # type: ignore[arg-type]

    ways = [(one[0], two[1]), (two[0], one[1])]
    threads = [threading.Thread(target=ask, args=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found[one[0]], found[two[0]]


def _place(engine: Engine, ident: str, network: str) -> tuple[str, str]:
    """The file of a running container's namespace, and its address."""
    shown = engine.get(f"/containers/{ident}/json")
    settings = shown["NetworkSettings"]["Networks"]
    return f"/proc/{shown['State']['Pid']}/ns/net", settings[network]["IPAddress"]


def lost(near: str, far: str, network: str, image: str = "busybox") -> tuple[int, int]:
    """Of the pings of `contact` to the new container, and of those from it; all is fine: (0, 0).

    `near`, `far`: URLs of engines that have the image.
    """
    with (
        closing(Engine(parse_host(near, None))) as one,
        closing(Engine(parse_host(far, None))) as two,
    ):
        to, back, _ = contact(one, two, network, image=image, every=0.02)
    assert to.answered
    assert back.answered
    return to.lost, back.lost
