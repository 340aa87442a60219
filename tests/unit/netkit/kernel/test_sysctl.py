"""Settings below /proc/sys: how many calls of the kernel a look costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from netkit.errors import KernelError
from netkit.kernel import sysctl
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.session import Session
from netkit.model import HOST, Sysctl


def test_a_setting_is_read_by_three_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            calls.append(name)
            return real(*args, **more)

        return call

    for name in ("open", "read", "close", "fstat", "stat", "lseek"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    monkeypatch.setattr("io.open", counted("io.open", open))
    key = Sysctl(name="net/ipv4/ip_forward", value="").key
    with Session(HOST, Tally()) as session:
        seen = sysctl.observe(session, [key])
    assert [r.value for r in seen.values() if isinstance(r, Sysctl)] in (["0"], ["1"])
    assert calls == ["open", "read", "close"]


@pytest.mark.parametrize("name", ["net/nothing/here", "net/ipv4/ip_forward/below"])
def test_a_setting_that_is_not_there_is_not_seen(name: str) -> None:
    with Session(HOST, Tally()) as session:
        assert sysctl.observe(session, [Sysctl(name=name, value="").key]) == {}


@pytest.mark.parametrize("name", ["net/../kernel/panic", "/etc/passwd"])
def test_what_is_outside_is_no_setting(name: str) -> None:
    with Session(HOST, Tally()) as session, pytest.raises(KernelError, match="is no setting"):
        sysctl.observe(session, [Sysctl(name=name, value="").key])
