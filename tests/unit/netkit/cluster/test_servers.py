"""A server that is asked straight after its start, when it knows no leader yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netkit.cluster import greeting, servers
from netkit.cluster.servers import LocalServer
from netkit.errors import KernelError

SEARCHING = "Server ID: aaaa\nRole: candidate\nLeader: unknown\n"
MEMBER = """Server ID: aaaa
Role: follower
Leader: bbbb
Servers:
    aaaa (aaaa at tcp:10.0.0.1:6644) (self)
    bbbb (bbbb at tcp:10.0.0.2:6644)
"""


class StartingServer(LocalServer):
    """It gives these answers in turn, the last one from then on."""

    def __init__(self, folder: Path, *answers: str) -> None:
        super().__init__(folder, folder)
        self.answers = list(answers)

    def _ask(self, *words: str) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise KernelError("the control socket is not there yet")
        return answer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "POLL", 0.0)
    monkeypatch.setattr(greeting, "POLL", 0.0)


def test_what_needs_most_servers_waits_for_an_election(tmp_path: Path) -> None:
    assert StartingServer(tmp_path, "", SEARCHING, SEARCHING, MEMBER).wait_connected()


@pytest.mark.parametrize("answer", ["", SEARCHING])
def test_it_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(servers, "ELECTION", 0.0)
    assert not StartingServer(tmp_path, answer).wait_connected()


def test_a_host_joins_by_a_server_that_has_just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, False, True]

    def ask(*_: Any) -> dict[str, Any]:
        return {"connected": answers.pop(0)}

    monkeypatch.setattr(greeting, "ask", ask)
    greeting.greet("10.0.0.1", 6640, None, name="Any", begin="init")
    assert answers == []
    monkeypatch.setattr(greeting, "ELECTION", 0.0)
    answers += [False] * 2
    with pytest.raises(KernelError, match="no connection to most servers"):
        greeting.greet("10.0.0.1", 6640, None, name="Any", begin="init")
