"""Attaching to real containers, and exec sessions in them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.container.config import HostConfig
from runtime.oci.console import Console
from runtime.oci.errors import BadCommand
from runtime.oci.exec_session import DRAIN, ExecSession, sweep
from runtime.oci.process import Process
from runtime.oci.reaper import LOST, Reaper
from tests.netns.oci_box import ID as C
from tests.netns.oci_box import Box, opened

pytestmark = pytest.mark.root


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with opened(tmp_path) as box:
        yield box


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await work

    asyncio.run(limited())


async def everything(console: Console) -> dict[int, bytes]:
    out = {1: b"", 2: b""}
    while packet := await console.read():
        out[packet[0]] += packet[1]
    return out


async def until(console: Console, words: bytes, seconds: float = 60) -> bytes:
    """Read output up to these words, or for so many seconds."""
    seen = b""
    try:
        async with asyncio.timeout(seconds):
            while words not in seen and (packet := await console.read()):
                seen += packet[1]
    except TimeoutError:
        pass
    return seen


def test_output_is_complete_for_who_attached_before_the_start(box: Box) -> None:
    async def work() -> None:
        box.create(C, ["sh", "-c", "yes | head -c 300000; echo err >&2"])
        console = Console.connect(box.shim.bundle(C))
        try:
            box.shim.start(C)
            out = await everything(console)
        finally:
            console.close()
        assert out[1] == b"y\n" * 150000
        assert out[2] == b"err\n"

    run(work())


def test_input_arrives_and_its_end_too(box: Box) -> None:
    async def work() -> None:
        box.create(C, ["cat"], stdin=True)
        console = Console.connect(box.shim.bundle(C))
        try:
            box.shim.start(C)
            text = os.urandom(100_000)
            reading = asyncio.create_task(everything(console))
            await console.write(text)
            console.end_input()
            assert (await reading)[1] == text
        finally:
            console.close()

    run(work())
    assert box.exit(C).code == 0


def test_stdin_stays_open_for_the_next_client_if_requested(box: Box) -> None:
    async def work() -> None:
        box.run(C, ["cat"], stdin=True, leave=True)
        first = Console.connect(box.shim.bundle(C))
        await first.write(b"one\n")
        assert await until(first, b"one") == b"one\n"
        first.close()
        second = Console.connect(box.shim.bundle(C))
        try:
            await second.write(b"two\n")
            assert b"two" in await until(second, b"two")
        finally:
            second.close()

    run(work())


def test_a_terminal_has_the_size_it_is_given(box: Box) -> None:
    async def work() -> None:
        box.create(C, ["sh"], stdin=True, leave=True, tty=True)
        console = Console.connect(box.shim.bundle(C))
        try:
            box.shim.start(C)
            box.shim.resize(C, 41, 101)
            loop = b"until stty size | grep '41 101'; do sleep 0.1; done\n"
            await console.write(loop)
            assert b"41 101\r" in await until(console, b"41 101\r")
        finally:
            console.close()

    run(work())


def test_no_process_listens_once_it_has_ended(box: Box) -> None:
    async def work() -> None:
        with pytest.raises(OSError, match=r"refused|No such file"):
            Console.connect(box.shim.bundle(C))

    box.run(C, ["true"])
    box.exit(C)
    running = box.shim.running(C)
    assert running
    assert running.monitor
    stop = time.monotonic() + 60
    while running.monitor.alive and time.monotonic() < stop:
        time.sleep(0.01)
    run(work())


def session(box: Box, cmd: list[str], **config: Any) -> ExecSession:
    return ExecSession(box.shim, Reaper(), C, box.process(cmd, **config))


async def outputs(s: ExecSession) -> tuple[bytes, bytes]:
    async def all_of(channel: int) -> bytes:
        out = b""
        while data := await s.read(channel):
            out += data
        return out

    out, err = await asyncio.gather(all_of(1), all_of(2))
    return out, err


def test_exec_has_its_pipes_and_its_exit_status(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, ["sh", "-c", "cat; echo err >&2; exit 9"])
        try:
            await s.start(stdin=True, output=True, size=None)
            assert Process.of(s.pid) is not None
            await s.write(b"through")
            s.end_input()
            assert await outputs(s) == (b"through", b"err\n")
            assert await s.wait() == 9
        finally:
            s.close()
        assert not list(box.shim.bundle(C).glob("exec-*"))

    run(work())


def test_exec_on_a_terminal(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, ["sh", "-c", "stty size; exit 3"], tty=True)
        try:
            await s.start(stdin=True, output=True, size=(30, 90))
            out = b""
            while data := await s.read(1):
                out += data
            assert b"30 90" in out
            assert await s.wait() == 3
        finally:
            s.close()

    run(work())


@pytest.mark.parametrize(
    ("command", "code"), [("nosuch", 127), ("/etc/nosuch", 127), ("/etc/script", 126)]
)
@pytest.mark.parametrize("tty", [False, True])
def test_exec_of_what_cannot_run(box: Box, command: str, code: int, tty: bool) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, [command], tty=tty)
        with pytest.raises(BadCommand, match="OCI runtime exec failed") as caught:
            await s.start(stdin=False, output=True, size=None)
        s.close()
        assert caught.value.exit_code == code
        assert not list(box.shim.bundle(C).glob("exec-*"))

    run(work())


def test_exec_is_killed_and_says_so(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, ["sleep", "100"])
        await s.start(stdin=False, output=False, size=None)
        s.kill()
        assert await s.wait() == 128 + signal.SIGKILL
        s.close()

    run(work())


def test_exec_is_over_when_its_command_is_though_its_pipes_are_held(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, ["sh", "-c", "sleep 60 & (sleep 0.5; echo late) & echo early; exit 5"])
        begin = time.monotonic()
        await s.start(stdin=False, output=True, size=None)
        assert await s.wait() == 5
        assert await outputs(s) == (b"early\nlate\n", b"")
        assert DRAIN <= time.monotonic() - begin < 50  # the pipes are held for 60 s
        s.close()

    run(work())


def test_a_command_whose_parent_was_killed_is_lost_and_the_next_has_a_new_one(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        reaper = Reaper()
        first = ExecSession(box.shim, reaper, C, box.process(["sleep", "100"]))
        await first.start(stdin=False, output=False, size=None)
        assert reaper.pid
        os.kill(reaper.pid, signal.SIGKILL)
        assert await first.wait() == LOST
        first.close()
        second = ExecSession(box.shim, reaper, C, box.process(["sh", "-c", "exit 4"]))
        await second.start(stdin=False, output=False, size=None)
        assert await second.wait() == 4
        second.close()

    run(work())


def test_exec_sessions_end_with_the_container(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    async def work() -> None:
        s = session(box, ["sleep", "100"])
        await s.start(stdin=False, output=True, size=None)
        box.shim.signal(C, signal.SIGKILL)
        assert await outputs(s) == (b"", b"")
        assert await s.wait() == 137
        s.close()

    run(work())


def test_many_sessions_leave_no_descriptor_and_no_child(box: Box) -> None:
    box.run(C, ["sleep", "100"])

    reaper = Reaper()

    async def once(tty: bool) -> None:
        s = ExecSession(box.shim, reaper, C, box.process(["echo", "x"], tty=tty))
        await s.start(stdin=True, output=True, size=None)
        while await s.read(1):
            pass
        assert await s.wait() == 0
        s.close()

    async def work() -> None:
        await once(tty=True)
        await once(tty=False)
        await asyncio.sleep(0.1)
        before = len(os.listdir("/proc/self/fd"))
        for n in range(6):
            await once(tty=n % 2 == 0)
        await asyncio.sleep(0.2)
        assert len(os.listdir("/proc/self/fd")) <= before

    before = zombies()
    run(work())
    assert zombies() <= before


def zombies() -> set[str]:
    """List children that ended and were not waited for."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    states = {c: Path(f"/proc/{c}/stat").read_text().rpartition(") ")[2][0] for c in children}
    return {c for c, state in states.items() if state == "Z"}


def test_leftovers_of_a_killed_daemon_s_sessions_are_swept(box: Box) -> None:
    box.run(C, ["sleep", "100"])
    left = box.shim.bundle(C) / "exec-0123"
    left.mkdir()
    (left / "process.json").write_text("{}")
    sweep(box.shim.bundle(C))
    assert not left.exists()
    assert (box.shim.bundle(C) / "config.json").exists()


def test_the_end_is_noticed_although_a_client_does_not_read(box: Box) -> None:
    async def work() -> None:
        init = box.create(C, ["yes"])
        console = Console.connect(box.shim.bundle(C), init)
        try:
            box.shim.start(C)
            await asyncio.sleep(1)
            init.signal(signal.SIGKILL)
            for _ in range(1200):
                await asyncio.sleep(0.05)
                if box.shim.exit_status(C):
                    break
            assert box.shim.exit_status(C) is not None
        finally:
            console.close()

    run(work())


def test_a_listener_that_leaves_does_not_close_the_stdin_of_another(box: Box) -> None:
    async def work() -> None:
        init = box.run(C, ["cat"], stdin=True)
        owner = Console.connect(box.shim.bundle(C))
        await owner.write(b"a\n")
        await until(owner, b"a")
        listener = Console.connect(box.shim.bundle(C))
        await asyncio.sleep(0.1)
        left = asyncio.create_task(listener.drain())
        await asyncio.sleep(0.3)
        alive = init.alive
        owner.close()
        await left
        assert alive

    run(work())


def test_a_terminal_still_takes_input_after_a_detach(box: Box) -> None:
    from types import SimpleNamespace

    from runtime.container.config import Config
    from runtime.container.model import Container
    from runtime.lifecycle import bundle

    passed: dict[str, Any] = {}

    class Watched:
        """The real shim; the real bundler decides whether stdin is left open."""

        def begin(self, id: str, **options: Any) -> None:
            passed.update(options)

    folder = SimpleNamespace(log=box.log, **{n: lambda i: box.folder / "none" for n in
                                             ("resolv", "hosts", "hostname")})  # fmt: skip
    bundle_builder = bundle.BundleBuilder(folder, None, Watched(), box.host, f"/{box.name}")  # type: ignore[arg-type]
    config = Config(cmd=["sh"], tty=True, open_stdin=True, stdin_once=True, hostname="box")
    c = Container(id=C, name=C, created="", image="", config=config, host_config=HostConfig())
    bundle_builder.begin(c)

    async def work() -> None:
        box.run(C, ["sh"], stdin=passed["stdin"], leave=passed["leave_stdin_open"], tty=True)
        first = Console.connect(box.shim.bundle(C))
        await asyncio.sleep(0.2)
        first.close()  # ctrl-p ctrl-q
        await asyncio.sleep(0.2)
        second = Console.connect(box.shim.bundle(C))
        try:
            await second.write(b"echo $((6*7))\n")
            assert b"42" in await until(second, b"42")
        finally:
            second.close()

    run(work())
