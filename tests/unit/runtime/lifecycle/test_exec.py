"""When an exec is over, and what becomes of one whose client has left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from netkit.errors import Conflict
from runtime.container.options import Exec, ExecConfig
from runtime.lifecycle.exec import ExecService
from runtime.lifecycle.exec_run import ExecAttachment
from runtime.oci import exec_session as session
from runtime.oci import subreaper
from runtime.oci.exec_session import ExecSession
from runtime.oci.reaper import Command, Reaper


class _Reaper:
    """A command that is a pair of pipes; the test decides when it ends."""

    def __init__(self) -> None:
        self.input = self.output = -1
        self.ended: asyncio.Future[int]

    async def start(
        self, argv: Sequence[str], stdio: Sequence[int], pid_file: Path
    ) -> tuple[Command, asyncio.Future[int]]:
        self.ended = asyncio.get_running_loop().create_future()
        self.input, self.output = os.dup(stdio[0]), os.dup(stdio[1])
        return Command(0, 1 << 30), self.ended

    def close(self) -> None:
        os.close(self.input)
        os.close(self.output)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(limited())


def opened(folder: Path, reaper: _Reaper) -> ExecSession:
    shim = Mock()
    shim.bundle.return_value = folder
    return ExecSession(shim, reaper, "c", {})  # type: ignore[arg-type]


def test_output_that_goes_on_for_ever_ends_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "DRAIN", 0.0)

    async def work() -> None:
        reaper = _Reaper()
        s = opened(tmp_path, reaper)
        await s.start(stdin=False, output=True, size=None)
        os.write(reaper.output, b"x" * 100)
        reaper.ended.set_result(5)
        await asyncio.sleep(0.01)
        assert await s.read(1) == b"x" * 100
        os.write(reaper.output, b"of another process")
        assert await s.read(1) == b""
        assert await s.wait() == 5
        s.close()
        reaper.close()

    run(work())


def started(folder: Path, reaper: _Reaper) -> tuple[ExecAttachment, Exec]:
    service = ExecService(
        asyncio.get_running_loop(), Mock(), Mock(), Mock(), Mock(), Mock(), Mock()
    )
    config = ExecConfig(cmd=["x"], attach_stdin=True, attach_stdout=True)
    e = Exec(id="e", container="c", config=config)
    service._execs.add(e)

    async def opening(*_: object, **__: object) -> ExecSession:
        s = service._sessions["e"] = opened(folder, reaper)
        await s.start(stdin=True, output=True, size=None)
        return s

    service.open = opening  # type: ignore[method-assign]
    return ExecAttachment(service, Mock(), e, (0, 0), raw=False), e


async def ends(e: Exec, status: int) -> None:
    for _ in range(10_000):
        await asyncio.sleep(0.001 * e.running)
    assert e.exit_code == status


class _Disconnected:
    """A client that has left."""

    async def read(self) -> bytes:
        raise ConnectionResetError

    async def write(self, channel: int, data: bytes) -> None:
        raise ConnectionResetError

    async def close(self) -> None: ...


def test_a_command_whose_client_has_left_is_read_on_and_its_input_ends(tmp_path: Path) -> None:
    async def work() -> None:
        reaper = _Reaper()
        running, e = started(tmp_path, reaper)
        with pytest.raises(ConnectionResetError):
            await running.run(_Disconnected())
        os.set_blocking(reaper.output, False)
        left = b"x" * (1 << 18)  # four times what a pipe holds
        while left:
            try:
                left = left[os.write(reaper.output, left) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
        assert os.read(reaper.input, 1) == b""
        assert e.running
        reaper.ended.set_result(5)
        reaper.close()
        await ends(e, 5)

    run(work())


class _Silent(_Disconnected):
    """A client that waits."""

    async def read(self) -> bytes:
        return b""

    async def write(self, channel: int, data: bytes) -> None: ...


def test_a_client_that_leaves_after_the_output_does_not_end_the_command(tmp_path: Path) -> None:
    async def work() -> None:
        reaper = _Reaper()
        running, e = started(tmp_path, reaper)
        client = asyncio.create_task(running.run(_Silent()))
        while reaper.output < 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        reaper.close()  # the command has closed its output
        await asyncio.sleep(0.01)
        client.cancel()
        await asyncio.wait({client})
        assert e.running
        reaper.ended.set_result(5)
        await ends(e, 5)

    run(work())


def test_a_status_is_not_taken_for_that_of_a_later_command_with_the_same_pid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, orphan = 100, 200
    file = tmp_path / "pid"
    file.write_text(str(orphan))
    answers: list[dict[str, Any]] = []
    daemon = Mock()
    daemon.send.side_effect = lambda packet: answers.append(json.loads(packet))
    served = subreaper.Subreaper(daemon)
    asked = json.dumps({"id": 1, "argv": ["x"], "env": {}, "pid_file": str(file)}).encode()

    def received(*_: object) -> tuple[bytes, list[int], int, None]:
        return asked, [os.open(os.devnull, os.O_RDONLY) for _ in range(3)], 0, None

    monkeypatch.setattr(socket, "recv_fds", received)
    monkeypatch.setattr(subreaper, "_spawn", lambda *_: runtime)

    def ends(*waited: tuple[int, int]) -> None:
        left = iter([*waited, (0, 0)])
        monkeypatch.setattr(os, "waitpid", lambda *_: next(left))
        served.reap()

    ends((orphan, 3 << 8))  # of a command that ended before
    served.take()
    ends((runtime, 0))
    assert answers == [{"id": 1, "runtime": 0, "pid": orphan}]
    ends((orphan, 4 << 8))
    assert answers[1:] == [{"id": 1, "exit": 4}]
    served.take()
    ends((orphan, 5 << 8), (runtime, 0))  # before its runtime
    assert answers[2:] == [{"id": 1, "runtime": 0, "pid": orphan}, {"id": 1, "exit": 5}]


def test_a_start_waits_while_the_socket_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = iter([True, True])

    def send(sock: socket.socket, packets: list[bytes], fds: list[int]) -> int:
        if next(full, False):
            raise BlockingIOError(11, "Resource temporarily unavailable")
        asked = json.loads(packets[0])
        reaper._take({"id": asked["id"], "runtime": 0, "pid": 7})
        return len(packets[0])

    async def work() -> None:
        command, _ = await reaper.start(["x"], [], tmp_path / "pid")
        assert command == Command(0, 7)

    reaper = Reaper()
    monkeypatch.setattr(socket, "send_fds", send)
    monkeypatch.setattr(reaper, "_connected", Mock())
    run(work())


def test_a_client_that_leaves_before_its_exec_begins_has_started_nothing() -> None:
    async def work() -> None:
        store = Mock()
        store.awake.return_value.id = "c"
        service = ExecService(
            asyncio.get_running_loop(), Mock(), Mock(), Mock(), Mock(), store, Mock()
        )
        id = service.create("c", ExecConfig(cmd=["x"]))
        for _ in range(2):  # the first has left, and so has its request
            assert service.start(id, detach=False, tty=False) is not None
            assert (service.find(id).running, service.of("c")) == (False, [])
        service.claim(service.find(id))
        for again in (service.claim, lambda e: service.start(e.id, detach=False, tty=False)):
            with pytest.raises(Conflict, match="has already run"):
                again(service.find(id))

    run(work())


def test_a_client_that_leaves_while_its_exec_begins_does_not_end_it(tmp_path: Path) -> None:
    async def work() -> None:
        reaper = _Reaper()
        running, e = started(tmp_path, reaper)
        opening, begun = running._execs.open, asyncio.Event()

        async def slow(*args: Any, **kwargs: Any) -> ExecSession:
            await begun.wait()
            return await opening(*args, **kwargs)

        running._execs.open = slow  # type: ignore[method-assign]
        client = asyncio.create_task(running.run(_Silent()))
        await asyncio.sleep(0.01)
        client.cancel()
        await asyncio.wait({client})
        begun.set()
        while reaper.output < 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert e.running
        reaper.close()
        reaper.ended.set_result(5)
        await ends(e, 5)

    run(work())


@pytest.mark.parametrize("limit", [0.01, 20.0])
def test_a_health_probe_that_is_cut_off_is_killed(tmp_path: Path, limit: float) -> None:
    """Killed by its timeout, or because its container has ended."""

    async def work() -> None:
        reaper = _Reaper()
        session = opened(tmp_path, reaper)
        session.kill = Mock()  # type: ignore[method-assign]
        running, _ = started(tmp_path, reaper)

        async def opening(*_: object, **__: object) -> ExecSession:
            await session.start(stdin=False, output=True, size=None)
            return session

        running._execs.open = opening  # type: ignore[method-assign]
        probe = asyncio.create_task(running._execs.probe(Mock(), ["x"], limit))
        while reaper.output < 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if limit > 1:
            probe.cancel()
        await asyncio.wait({probe})
        assert probe.cancelled() or isinstance(probe.exception(), TimeoutError)
        session.kill.assert_called_once()
        reaper.close()

    run(work())


def test_a_command_that_begins_after_its_start_was_given_up_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Mock()
    sent: list[bytes] = []

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reaper.start(["x"], [], tmp_path / "pid")
        reaper._take({"id": json.loads(sent[0])["id"], "runtime": 0, "pid": 7})

    reaper = Reaper()
    monkeypatch.setattr(socket, "send_fds", lambda sock, packets, fds: sent.extend(packets))
    monkeypatch.setattr(reaper, "_connected", Mock())
    monkeypatch.setattr(os, "kill", killed)
    run(work())
    killed.assert_called_once_with(7, signal.SIGKILL)


def test_a_command_is_not_started_without_its_three_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = json.dumps({"id": 1, "argv": ["x"], "env": {}, "pid_file": "/x"}).encode()
    daemon = Mock()
    monkeypatch.setattr(socket, "recv_fds", lambda *_: (asked, [], 0, None))
    monkeypatch.setattr(subreaper, "_spawn", Mock())
    subreaper.Subreaper(daemon).take()
    assert json.loads(daemon.send.call_args[0][0]) == {"id": 1, "runtime": 127, "pid": 0}
