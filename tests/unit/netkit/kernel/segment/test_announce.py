from __future__ import annotations

import threading
import time
from ipaddress import IPv4Address

import pytest

from netkit.errors import KernelError
from netkit.kernel.segment.announce import AFTER, Announcer

pytestmark = pytest.mark.slow

A, B = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")
PATIENCE = 60.0


class Wire:
    def __init__(self) -> None:
        self.sent: list[tuple[str, IPv4Address]] = []
        self.when: list[float] = []
        self.enough = threading.Event()

    def __call__(self, ns: str, link: str, address: IPv4Address) -> None:
        self.sent.append((ns, address))
        self.when.append(time.monotonic())
        if len(self.sent) == 2 * len(AFTER):
            self.enough.set()
        if address == A:
            raise KernelError("no network namespace /run/a")


def test_each_is_announced_after_a_moment_and_again_whatever_becomes_of_the_other() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    begin = time.monotonic()
    announcer.soon("/run/a", "eth0", A)
    announcer.soon("/run/b", "eth0", B)
    assert not wire.sent, "no caller waits for it"
    assert wire.enough.wait(PATIENCE)
    assert sorted(wire.sent) == sorted([("/run/a", A), ("/run/b", B)] * len(AFTER))
    assert min(wire.when) >= begin + AFTER[0]


def test_the_thread_is_there_only_while_something_is_due() -> None:
    wire = Wire()
    announcer = Announcer(wire)
    for _ in range(2):
        announcer.soon("/run/b", "eth0", B)
    assert wire.enough.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while any(t.name == "netkit-announce" for t in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
