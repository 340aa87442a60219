"""Run the overlay of one host until it is stopped: what `python -P -m netkit.overlay` does."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import entry_points
from logging.handlers import RotatingFileHandler
from pathlib import Path

import netkit
from netkit.errors import Conflict, KernelError, NetkitError, NotFound
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink
from netkit.overlay.core import GROUP, Core, Make, Settings
from netkit.overlay.folders import Folders
from netkit.overlay.kernel_plane import KernelPlane
from netkit.overlay.loop import Bell, Loop, now
from netkit.overlay.process import Process
from netkit.overlay.server import Server
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.store import Rows, Store

PATIENCE = 5.0  # seconds for the workers of an earlier process to end
PAUSE = 0.02  # seconds between looks at that
LOG_SIZE = 1 << 20  # bytes; the one before it is kept, too
MACHINE = Path("/etc/machine-id")
BOOT = Path("/proc/sys/kernel/random/boot_id")

log = logging.getLogger("netkit.overlay")


def run(folders: Folders) -> None:
    """Until a client or a signal ends it.  NetkitError: it cannot begin, or go on."""
    folders.make()
    with ExitStack() as stack:
        stack.enter_context(_only(folders.pid))
        _log_to(folders.log)
        settings = folders.read()
        if settings is None:
            raise NotFound("the weave overlay was not launched on this host: netkit weave launch")
        store = Store(folders.database)
        stack.callback(store.close)
        rows = store.rows()
        core = _core(settings, rows)
        pair = _pair(settings)
        stack.callback(pair.close)
        loop = Loop()
        stack.callback(loop.close)
        bell = Bell(loop)
        stack.callback(bell.close)
        process = Process(core, store, pair, loop, KernelPlane(loop, rows, now()))
        stack.callback(process.close)
        server = _server(folders, loop, process)
        stack.callback(server.close)
        with _signals(bell):
            try:
                process.start()
                log.info("running, pid %d", os.getpid())
                while not (process.stopping or bell.rung):
                    process.turn()
            except NetkitError as e:
                log.error("ended: %s", e)
                raise
        _end(folders, process)


def _end(folders: Folders, process: Process) -> None:
    """What is left depends on why: after a signal everything, so that frames go on."""
    if process.stopping:
        process.withdraw()
    if process.resetting:
        folders.forget_state()
    elif process.stopping:
        folders.forget_launch()
    log.info("ended")


@contextmanager
def _only(path: Path) -> Iterator[None]:
    """Be the only process of this host.  Conflict."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"the overlay runs on this host already, see {path}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _log_to(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=LOG_SIZE, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _core(settings: Settings, rows: Rows) -> Core:
    found = entry_points(group=GROUP, name=settings.overlay)
    if not found:
        raise NotFound(f"there is no overlay {settings.overlay!r}: reinstall netkit")
    make: Make = next(iter(found)).load()
    try:
        machine = MACHINE.read_text()
    except OSError:
        machine = ""
    return make(
        settings=settings, rows=rows, machine=machine, boot=BOOT.read_bytes().strip(),
        addresses=_addresses(":" in settings.host), software=f"netkit {netkit.__version__}",
        random=os.urandom, now=now(),
    )  # fmt: skip


def _addresses(v6: bool) -> list[str]:
    """Of this host's devices, but for those that netkit made: there is no peer behind them."""
    found = []
    with Netlink() as netlink:
        ours = set()
        for body in netlink.run([rtnl.get_link(name) for _, name in socket.if_nameindex()]):
            for message in body.messages:
                link = rtnl.seen_link(message)
                if link.alias.startswith("netkit:"):
                    ours.add(link.index)
        for index, _ in socket.if_nameindex():
            if index in ours:
                continue
            for message in netlink.dump(rtnl.addresses(index)):
                address = rtnl.seen_addr(message).address.ip
                usual = not (address.is_loopback or address.is_link_local)
                if usual and (address.version == 4 or v6):
                    found.append(str(address))
    return list(dict.fromkeys(found))


def _pair(settings: Settings) -> Pair:
    """The UDP port, once no process has it: workers of a process that was killed end by themselves.

    KernelError: somebody else has it.
    """
    end = time.monotonic() + PATIENCE
    v6 = ":" in settings.host
    while True:
        try:
            with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind((settings.host, settings.port))
            pair = Pair(settings.host, settings.port)
        except OSError as e:
            if e.errno == errno.EADDRINUSE and time.monotonic() < end:
                time.sleep(PAUSE)
                continue
            what = f"UDP port {settings.port} of {settings.host} cannot be opened: {e.strerror}"
            hint = "; another program has it" if e.errno == errno.EADDRINUSE else ""
            raise KernelError(what + hint, errno=e.errno) from e
        pair.control.setblocking(False)
        return pair


def _server(folders: Folders, loop: Loop, process: Process) -> Server:
    try:
        return Server(folders.control, loop, process.asked)
    except OSError as e:
        raise KernelError(f"the control socket {folders.control}: {e}", errno=e.errno) from e


@contextmanager
def _signals(bell: Bell) -> Iterator[None]:
    """SIGTERM and SIGINT ring the bell, and end nothing themselves."""
    before = signal.set_wakeup_fd(bell.rope)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.set_wakeup_fd(before)
