"""Each call below an exec, health probe, attached client or log fails in turn: nothing hangs.

As test_container_faults: the points are found by a run in which nothing fails, then each raises, in
a run of its own, each of ERRORS.  Afterwards

- an exec runs if, and only if, its process lives, and has an exit status once it has begun;
- each client got its end, and the error was shown to it, raised or logged;
- a container goes on being probed, and what a probe started has ended;
- no descriptor, task, file or subscription is left.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.apitypes import Health
from runtime.container.model import HealthState
from runtime.container.options import AttachOptions, Exec, ExecConfig, LogOptions
from tests.unit.points import ERRORS
from tests.unit.runtime.lifecycle.container_world import ID
from tests.unit.runtime.lifecycle.stream_world import (
    HUNG,
    Client,
    Conmon,
    Streams,
    Tar,
    archives,
    until,
)

MOST = 6  # calls of one function that fail; in how many pieces is read is a matter of time
UNKILLABLE = "os.kill"


class Story:
    def __init__(self, world: Streams) -> None:
        self.w = world
        self.raised: list[Exception] = []
        self.wrong: list[str] = []
        self.shown = bytearray()

    async def step(self, name: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(2 * HUNG):
                await act()
        except TimeoutError:
            self.wrong.append(f"{name} hung")
        except Exception as error:
            self.raised.append(error)

    async def talk(self, attachment: Any, client: Client) -> None:
        await self.w.talk(attachment, client)
        self.shown += client.got

    async def run_all(self) -> None:
        raise NotImplementedError

    async def over(self) -> None:
        """List what is wrong at the end."""

    @property
    def unkillable(self) -> bool:
        return (self.w.points.fail or ("",))[0].startswith(UNKILLABLE)


class Execs(Story):
    """With pipes and a terminal, with a client, without one, and with one that leaves."""

    def __init__(self, world: Streams) -> None:
        super().__init__(world)
        self.begun: list[Exec] = []

    async def run_all(self) -> None:
        await self.step("exec", self._whole)
        await self.step("terminal", self._terminal)
        await self.step("detached", self._detached)
        await self.step("client that leaves", self._left)
        await self.step("end of the container", self._ended)

    def _made(self, **more: Any) -> Exec:
        fields = {"attach_stdin": True, "attach_stdout": True, "attach_stderr": True, **more}
        id = self.w.execs.create("web", ExecConfig(cmd=["sh"], **fields))
        self.begun.append(self.w.execs.find(id))
        return self.begun[-1]

    async def _started(self, client: Client, **more: Any) -> tuple[Exec, asyncio.Task[None]]:
        e = self._made(**more)
        attachment = self.w.execs.start(e.id, detach=False, tty=e.config.tty)
        talking = asyncio.create_task(self.talk(attachment, client))
        await until(lambda: e.pid in self.w.processes.alive or talking.done())
        return e, talking

    async def _whole(self) -> None:
        e, talking = await self._started(Client(b"input"))
        self.w.processes.write_output(e.pid, b"hello")
        self.w.processes.end(e.pid, 3)
        await talking
        await self._has(e, 3)

    async def _terminal(self) -> None:
        client = Client(b"input", ends=False)
        e, talking = await self._started(client, tty=True)
        self.w.execs.resize(e.id, 40, 100)
        self.w.processes.write_output(e.pid, b"hello")
        await until(lambda: client.got or talking.done())
        self.w.processes.end(e.pid, 4)
        await until(lambda: not e.running)
        client.lost.set()
        await talking
        await self._has(e, 4)

    async def _detached(self) -> None:
        e = self._made()
        await asyncio.to_thread(self.w.execs.start, e.id, detach=True, tty=False)
        self.w.processes.end(e.pid, 5)
        await until(lambda: not e.running)
        await self._has(e, 5)

    async def _left(self) -> None:
        client = Client(ends=False)
        e, talking = await self._started(client)
        client.lost.set()
        await talking
        self.w.processes.write_output(e.pid, b"unheard")
        await asyncio.sleep(0.01)
        self.w.processes.end(e.pid, 6)
        await until(lambda: not e.running)
        await self._has(e, 6)

    async def _ended(self) -> None:
        e, talking = await self._started(Client())
        self.w.execs.ended(self.w.c)
        await until(lambda: e.pid not in self.w.processes.alive or self.unkillable)
        if self.unkillable:
            self.w.processes.end(e.pid, 137)
        await talking
        await self._has(e, 137)

    async def _has(self, e: Exec, code: int) -> None:
        alive = self.w.processes.alive
        if not await until(lambda: not e.running or e.pid in alive):
            self.wrong.append(f"an exec runs, and its process has ended with {code}")
        if not self.w.points.failed and e.exit_code != code:
            self.wrong.append(f"{e.exit_code} is not {code}")

    async def over(self) -> None:
        running = {e.pid for e in self.begun if e.running}
        if self.w.processes.alive.keys() - running and not self.unkillable:
            self.wrong.append("a process lives, and its exec does not run")
        for pid in list(self.w.processes.alive):
            self.w.processes.end(pid, 0)
        if not await until(lambda: not any(e.running for e in self.begun)):
            self.wrong.append("an exec runs for ever")
        if any(e.exit_code is None for e in self.begun):
            self.wrong.append("an exec has no exit status")
        if self.w.execs._sessions or self.w.execs._sizes or self.w.execs._doomed:
            self.wrong.append("an exec is remembered as running")


class Probes(Story):
    """One that succeeds, one that takes too long, and one that the container's end cuts off."""

    async def run_all(self) -> None:
        c = self.w.c
        c.config.healthcheck = Health(test=["CMD", "true"], interval=2_000_000, timeout=50_000_000)
        c.state.health = HealthState(status="starting")
        self.w.health.begin(c)
        await self.step("success", self._succeed)
        await self.step("time-out", self._time_out)
        await self.step("success again", self._succeed)
        await self.step("end", self._end)

    async def _one(self) -> int:
        if not await until(lambda: self.w.processes.alive):
            self.wrong.append("it is probed no more")
        return next(iter(self.w.processes.alive))

    async def _succeed(self) -> None:
        """One that fails, or that a busy machine lets take too long, is followed by another."""
        known = self.w.results.count("fine")
        for _ in range(9):
            pid, before = await self._one(), len(self.w.results)
            self.w.processes.write_output(pid, b"fine")
            self.w.processes.end(pid, 0)
            await until(lambda b=before: len(self.w.results) > b)  # type: ignore[misc]
            if self.w.results.count("fine") > known:
                return
        self.wrong.append("no probe succeeds any more")

    async def _time_out(self) -> None:
        pid = await self._one()
        known = len(self.w.results)
        await until(lambda: len(self.w.results) > known)
        if pid in self.w.processes.alive:
            if not self.unkillable:
                self.wrong.append("a probe that takes too long lives on")
            self.w.processes.end(pid, 137)

    async def _end(self) -> None:
        pid = await self._one()
        self.w.health.end(self.w.c)
        if self.unkillable:
            return
        if not await until(lambda: pid not in self.w.processes.alive):
            self.wrong.append("a probe lives on when its container has ended")

    async def over(self) -> None:
        await self.w.health.close()
        if self.w.c.state.health is None or self.w.c.state.health.status != "healthy":
            self.wrong.append("it is not healthy after a probe that succeeded")
        if self.w.execs._sessions:
            self.wrong.append("a probe is remembered as running")


class Attached(Story):
    """One before the start, one with input, one that leaves; each to the output's end."""

    async def run_all(self) -> None:
        self.conmon = Conmon(self.w.shim.bundle(ID))
        await self.step("attach before the start", self._early)
        await self.step("attach", self._running)
        await self.step("leave", self._leave)
        self.conmon.close()

    def _attached(self, client: Client) -> asyncio.Task[None]:
        options = AttachOptions(stdin=True, stdout=True, stderr=True, logs=False, stream=True)
        attachment = self.w.attach_service.attachment(self.w.c, options)
        return asyncio.create_task(self.talk(attachment, client))

    async def _early(self) -> None:
        state = self.w.c.state
        state.status = "created"
        client = Client()
        talking = self._attached(client)
        await asyncio.sleep(0.01)
        await asyncio.to_thread(self.w.attach_service.before_start, self.w.c)
        state.status = "running"
        await self._receive(client, talking)

    async def _running(self) -> None:
        client = Client(b"input")
        await self._receive(client, self._attached(client))

    async def _receive(self, client: Client, talking: asyncio.Task[None]) -> None:
        await asyncio.sleep(0.01)
        self.conmon.write_output(b"output")
        await until(lambda: b"output" in client.got or talking.done())
        for sock in self.conmon.clients:
            sock.close()
        self.conmon.clients.clear()
        await talking
        if b"output" not in client.got and not self.w.points.failed:
            self.wrong.append("no output")

    async def _leave(self) -> None:
        client = Client(ends=False)
        talking = self._attached(client)
        await asyncio.sleep(0.01)
        client.lost.set()
        await talking


class Logs(Story):
    """Read whole, from its end, and followed over a rotation."""

    async def run_all(self) -> None:
        self.log = self.w.paths.log(ID)
        self._write("a", "b")
        await self.step("read", self._read)
        await self.step("tail", lambda: self._read(tail=1))
        await self.step("follow", self._follow)

    def _write(self, *lines: str) -> None:
        text = "".join(f"2026-01-01T00:00:00.000000001+00:00 stdout F {line}\n" for line in lines)
        fd = os.open(os.fsencode(self.log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, text.encode())
        os.close(fd)

    async def _read(self, tail: int | None = None) -> None:
        options = LogOptions(stdout=True, stderr=True, tail=tail)
        got = [data async for _, data in self.w.attach_service.logs(self.w.c, options)]
        if got != ([b"b\n"] if tail else [b"a\n", b"b\n"]):
            self.wrong.append(f"read {got}")

    async def _follow(self) -> None:
        options = LogOptions(stdout=True, stderr=True, follow=True)
        got = []
        async for _, data in self.w.attach_service.logs(self.w.c, options):
            got.append(data)
            if data == b"b\n":
                os.rename(os.fsencode(self.log), os.fsencode(f"{self.log}.1"))
                self._write("c")
            if data == b"c\n":
                self.w.c.state.status = "exited"
        if got != [b"a\n", b"b\n", b"c\n"]:
            self.wrong.append(f"followed {got}")


class Archives(Story):
    """`cp` from a container, whole, given up before and after its first byte, and into it."""

    NAMES = ("d", "d/file", "d/link", "d/sub", "d/sub/file")

    def __init__(self, world: Streams) -> None:
        super().__init__(world)
        self.root = world.folder / "fs"
        (self.root / "d" / "sub").mkdir(parents=True)
        for name in ("file", "sub/file"):
            (self.root / "d" / name).write_text(name)
        (self.root / "d" / "link").symlink_to("file")
        self.looking, self.mounted = archives(world.points, self.root, world.patch)
        world.c.state.status = "exited"

    async def run_all(self) -> None:
        await self.step("whole", self._whole)
        await self.step("dropped", self._dropped)
        await self.step("closed", self._closed)
        await self.step("link", self._link)
        await self.step("into", self._into)

    async def _whole(self) -> None:
        _, stream = self.looking.get_archive(self.w.c, "/d")
        data = b"".join(stream)
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            if (names := tuple(sorted(tar.getnames()))) != self.NAMES:
                self.wrong.append(f"an archive that looks whole has only {names}")

    async def _dropped(self) -> None:
        self.looking.get_archive(self.w.c, "/d")

    async def _closed(self) -> None:
        _, stream = self.looking.get_archive(self.w.c, "/d")
        next(stream)
        stream.close()  # type: ignore[attr-defined]

    async def _link(self) -> None:
        found = self.looking.stat_path(self.w.c, "/d/link")
        if found.link != "/d/file":
            self.wrong.append(f"the link leads to {found.link}")

    async def _into(self) -> None:
        made = Tar()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for name, kind in (("n", tarfile.DIRTYPE), ("n/f", tarfile.REGTYPE), ("file", b"0")):
                member = tarfile.TarInfo(name)
                member.type, member.mode = kind, 0o755
                member.size = 3 * (kind != tarfile.DIRTYPE)
                tar.addfile(member, io.BytesIO(b"new"))
        made.seek(0)
        self.looking.put_archive(self.w.c, "/d", made, False, False)
        for name in ("n/f", "file"):
            if (self.root / "d" / name).read_text() != "new":
                self.wrong.append(f"{name} is not as in the archive")

    async def over(self) -> None:
        if self.mounted.borrowers:
            self.wrong.append("its root file system stays borrowed")


STORIES: list[type[Story]] = [Execs, Probes, Attached, Logs, Archives]


def played(
    folder: Path, kind: type[Story], fail: tuple[str, Exception] | None = None
) -> tuple[Streams, Story]:
    folder.mkdir()
    before = set(os.listdir("/proc/self/fd"))

    async def life() -> tuple[Streams, Story]:
        with pytest.MonkeyPatch.context() as patch:
            world = Streams(folder, patch)
            story = kind(world)
            world.points.fail = fail
            await story.run_all()
            await story.over()
            await world.close()
            this = asyncio.current_task()
            if not await until(lambda: asyncio.all_tasks() == {this}):
                story.wrong.append(f"left behind: {asyncio.all_tasks() - {this}}")
        return world, story

    world, story = asyncio.run(life())
    if set(os.listdir("/proc/self/fd")) - before:
        gc.collect()
        if left := set(os.listdir("/proc/self/fd")) - before:
            story.wrong.append(f"{len(left)} descriptors are left")
    if list(world.shim.bundle(ID).glob("exec-*")) and not world.points.failed:
        story.wrong.append("files are left")
    return world, story


@pytest.mark.parametrize("kind", STORIES)
def test_streams_where_nothing_fails(memory: Path, kind: type[Story]) -> None:
    world, story = played(memory / "w", kind)
    assert (story.wrong, story.raised) == ([], [])
    assert len(world.points.met) > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORIES)
def test_whatever_fails_below_a_stream_it_ends_and_is_reported(
    memory: Path, caplog: pytest.LogCaptureFixture, kind: type[Story]
) -> None:
    world, _ = played(memory / "w", kind)
    wrong: dict[str, list[str]] = {}
    caplog.set_level(logging.WARNING)
    points = [p for p in dict.fromkeys(world.points.met) if int(p.rpartition(" ")[2]) <= MOST]
    failed = 0
    for number, point in enumerate(points):
        for which, make in enumerate(ERRORS):
            error = make()
            caplog.clear()
            world, story = played(memory / f"{number}-{which}", kind, (point, error))
            failed += world.points.failed
            shown = (
                f"{[*map(str, story.raised)]} {story.shown.decode()} {world.results} {caplog.text}"
            )
            text = getattr(error, "strerror", None) or str(error)
            if world.points.failed and text not in shown:
                story.wrong.append("silence")
            if story.wrong:
                wrong[f"{point}: {type(error).__name__}"] = story.wrong
    text = "\n".join(f"{k}: {'; '.join(v)}" for k, v in wrong.items())
    print(f"{kind.__name__}: {len(points)} points, {failed} injections, {len(wrong)} wrong")
    assert not wrong, f"{len(points)} points, {len(wrong)} wrong:\n{text}"
