"""The eBPF program of a redirect, run on frames; and kernels that take none."""

from __future__ import annotations

import struct
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from netkit.kernel.netlink import bpf_redirect
from netkit.kernel.session import Session
from netkit.model import BridgeRedirect
from netkit.reconcile.plan import Op

BRIDGE, MAC, OTHER = "02:42:ac:14:01:01", "02:42:ac:14:01:02", "02:42:ac:14:01:03"
REDIRECTED, PASSED = ("redirect", 7, 1), ("pass",)


def outcome(program: bytes, frame: bytes) -> tuple[object, ...]:
    """Interpret the instructions that `program` uses (RFC 9669), without a kernel."""
    words = [struct.unpack_from("=BBhi", program, at) for at in range(0, len(program), 8)]
    r: dict[int, int] = {}
    at = 0
    while True:
        code, registers, offset, value = words[at]
        dst, src = registers & 15, registers >> 4
        at += 1
        match code:
            case 0x61 | 0x69 if src == 1:  # of struct __sk_buff: data, data_end
                r[dst] = {76: 0, 80: len(frame)}[offset]
            case 0x61 | 0x69:
                size = 4 if code == 0x61 else 2
                assert r[src] + offset + size <= len(frame), "read beyond the frame"
                r[dst] = int.from_bytes(frame[r[src] + offset :][:size], sys.byteorder)
            case 0xBF:
                r[dst] = r[src]
            case 0x07:
                r[dst] += value
            case 0xB7:
                r[dst] = value
            case 0x2D:
                at += offset if r[dst] > r[src] else 0
            case 0x56:
                at += offset if r[dst] != value & 0xFFFFFFFF else 0
            case 0x85:
                return "redirect", r[1], r[2]
            case 0x95:
                assert r[0] == -1
                return PASSED
            case _:
                raise AssertionError(f"instruction {code:#x}")


def frame(dst: str, src: str, kind: int = 0x0800) -> bytes:
    return bytes.fromhex((dst + src).replace(":", "")) + struct.pack(">H", kind) + bytes(20)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (frame(BRIDGE, MAC), REDIRECTED),
        (frame(OTHER, MAC), PASSED),
        (frame(BRIDGE, OTHER), PASSED),
        (frame(BRIDGE, MAC, 0x0806), PASSED),
        (frame("ff:ff:ff:ff:ff:ff", MAC), PASSED),
        (frame(BRIDGE, MAC)[:13], PASSED),
    ],
    ids=["ours", "to another", "of another", "ARP", "broadcast", "short"],
)
def test_only_ipv4_of_the_container_to_the_bridge_is_redirected(
    sent: bytes, expected: tuple[object, ...]
) -> None:
    assert outcome(bpf_redirect.program(7, BRIDGE, MAC), sent) == expected


@pytest.mark.parametrize(
    ("macs", "bridge", "leads"),
    [([MAC], BRIDGE, True), ([OTHER], BRIDGE, False), ([MAC], OTHER, False), ([], OTHER, True)],
    ids=["ours", "of another container", "of a former bridge", "addresses not known"],
)
def test_a_filter_leads_to_the_bridge_of_today(
    monkeypatch: pytest.MonkeyPatch, macs: list[str], bridge: str, leads: bool
) -> None:
    name = bpf_redirect._digest(bpf_redirect.program(7, BRIDGE, MAC)).encode()
    monkeypatch.setattr(bpf_redirect, "_names", lambda *_: {name})
    session: Any = SimpleNamespace(link=lambda *_: SimpleNamespace(index=7, mac=bridge))
    port: Any = SimpleNamespace(index=9, master=7)
    assert bpf_redirect.leads(session, "", port, macs) is leads


def test_a_kernel_without_ebpf_is_warned_of_once_and_lets_endpoints_come_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(bpf_redirect, "_try_out", refuse)
    bpf_redirect.supported.cache_clear()
    links = {"v0": SimpleNamespace(index=9, alias="", mac=MAC)}
    links["br0"] = SimpleNamespace(index=7, alias="", mac=BRIDGE)
    session: Any = SimpleNamespace(
        link=lambda _, name: links.get(name), exists=lambda _: True, forget_links=lambda: None
    )
    r = BridgeRedirect(dev="v0", bridge="br0", mac=MAC)
    try:
        bpf_redirect.apply(cast(Session, session), [Op(before=None, after=r)])
        assert list(bpf_redirect.observe(cast(Session, session), [r.key])) == [r.key]
    finally:
        bpf_redirect.supported.cache_clear()
    assert [x.getMessage()[:42] for x in caplog.records] == [
        "no redirects at bridge ports, the kernel t"
    ]
