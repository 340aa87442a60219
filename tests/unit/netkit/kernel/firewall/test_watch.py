"""Whose changes of rules are hints: messages as nf_tables sends them, by a stand-in of its socket.

The stages with root run in a pid namespace, where ids in messages are not ours; see
tests/netns/test_rulewatch.py for the kernel's own messages.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from netkit.kernel import netns, run
from netkit.kernel.firewall import watch
from netkit.kernel.firewall.watch import GEN_PROC_PID, HEADER, NEWGEN, RuleWatch, authors
from netkit.kernel.netlink.codec import attr

GEN_ID, GEN_PROC_NAME = 1, 3  # linux/netfilter/nf_tables.h
NEWRULE = 0xA06
OURS, OTHER = 4_194_303, 4_194_302  # the largest ids there can be


def message(kind: int, *attributes: bytes) -> bytes:
    body = b"\2\0\0\7" + b"".join(attributes)  # struct nfgenmsg, then attributes
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


def generation(pid: int) -> bytes:
    return message(
        NEWGEN,
        attr(GEN_ID, struct.pack(">I", 7)),
        attr(GEN_PROC_PID, struct.pack(">I", pid)),
        attr(GEN_PROC_NAME, b"iptables-nft-re\0"),
    )


class Source:
    """A netlink socket as `RuleWatch` uses it; it receives what `kernel` sends."""

    def __init__(self) -> None:
        self._near, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.lost = False
        self.fileno, self.setblocking = self._near.fileno, self._near.setblocking

    def setsockopt(self, *_: object) -> None: ...

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 1 << (watch.NFNLGRP_NFTABLES - 1))

    def recv(self, size: int) -> bytes:
        if self.lost:
            self.lost = False
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return self._near.recv(size)

    def close(self) -> None:
        self._near.close()
        self.kernel.close()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(netns, "open_socket", lambda *_: made)
    monkeypatch.setattr(watch, "PROC_PID_INIT_INO", os.stat("/proc/self/ns/pid").st_ino)
    run.acts(OURS)
    return made


@pytest.fixture
def rules(source: Source) -> Iterator[RuleWatch]:
    made = RuleWatch("", legacy=False)
    yield made
    made.close()


def test_what_we_change_ourselves_is_no_hint(source: Source, rules: RuleWatch) -> None:
    source.kernel.send(message(NEWRULE) + generation(OURS))
    assert not rules.wait(0.02)
    source.kernel.send(generation(OURS) + generation(OTHER))
    assert rules.wait(5)
    assert not rules.wait(0.02)


def test_a_change_whose_author_is_not_stated_is_a_hint(source: Source, rules: RuleWatch) -> None:
    source.kernel.send(message(NEWGEN))
    assert rules.wait(5)


def test_messages_that_were_lost_are_a_hint(source: Source, rules: RuleWatch) -> None:
    source.kernel.send(generation(OURS))
    source.lost = True
    assert rules.wait(5)


def test_in_another_pid_namespace_every_change_is_a_hint(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports ids of the first namespace: one of another process may equal ours."""
    monkeypatch.setattr(watch, "PROC_PID_INIT_INO", 1)
    rules = RuleWatch("", legacy=False)
    try:
        source.kernel.send(generation(OURS))
        assert rules.wait(5)
    finally:
        rules.close()


def test_a_caller_that_waits_is_woken(source: Source, rules: RuleWatch) -> None:
    rules.wake()
    assert not rules.wait(60)  # at once, or the test takes a minute


@pytest.mark.parametrize("cut", [1, HEADER.size - 1, HEADER.size + 2])
def test_a_message_that_is_cut_off_has_no_author(cut: int) -> None:
    assert list(authors(generation(OURS)[:cut])) in ([], [0])


def test_a_size_below_that_of_a_header_ends_the_messages() -> None:
    assert list(authors(HEADER.pack(0, NEWGEN, 0, 0, 0) + generation(OURS))) == []
