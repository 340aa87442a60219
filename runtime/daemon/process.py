"""The daemon's process: construct the parts, serve the API until a signal.

    Config -> kernel, networks, images, containers -> Engine -> API on its listeners

Containers do not depend on this process: it may be killed and started again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from netkit import threads
from netkit.errors import InvalidSpec
from runtime import malloc
from runtime.api.app import make_app
from runtime.api.server.request_tally import RequestTally
from runtime.api.server.serve import Serving, serve
from runtime.daemon.bootstrap import Daemon, bootstrap
from runtime.daemon.bootstrap_docker import serve_plugin
from runtime.daemon.bootstrap_metrics import serve_metrics
from runtime.daemon.config import DaemonConfig
from runtime.daemon.listening import Listening, listening
from runtime.daemon.reload import Reload, on_signal
from runtime.filetree.spread import spread
from runtime.oci.cgroups import Cgroups
from runtime.paths import Paths

log = logging.getLogger("netkit.daemon")
WORKERS = 64  # threads for exits, restarts and other work outside requests
LEVELS = {
    "trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING,
    "error": logging.ERROR, "fatal": logging.CRITICAL, "panic": logging.CRITICAL,
}  # fmt: skip


def run(config: DaemonConfig, read: Callable[[], DaemonConfig]) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP calls `read`.  NetkitError where it cannot start."""
    logging.basicConfig(
        level=_level(config),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    for warning in config.warnings:
        log.warning("%s", warning)
    os.umask(0o022)
    # iptables, nft and others are in sbin, which the PATH of a user or a unit may lack.
    os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    _raise_file_limit()
    malloc.return_freed()
    paths = Paths(config.root, config.run)
    paths.make()
    for folder in paths.unrelated:
        spread(folder)
    with _single_instance_lock(paths), _pidfile(config.pidfile):
        asyncio.set_event_loop_policy(_policy())
        asyncio.run(_serve(config, paths, read))


def _level(config: DaemonConfig) -> int:
    return logging.DEBUG if config.debug else LEVELS[config.log_level.lower()]


def _policy() -> asyncio.AbstractEventLoopPolicy:
    """Wait for child processes by pidfd: no thread per child, and no SIGCHLD to miss."""
    policy = asyncio.DefaultEventLoopPolicy()
    if sys.version_info < (3, 12):
        policy.set_child_watcher(asyncio.PidfdChildWatcher())
    return policy


def _raise_file_limit() -> None:
    """Raise the soft limit of descriptors, of which containers need several.

    The default of 1024 is for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextlib.contextmanager
def _single_instance_lock(paths: Paths):  # type: ignore[no-untyped-def]
    """Lock the run directory and the root: one daemon each.  The kernel releases locks at exit."""
    with contextlib.ExitStack() as stack:
        for lock in (paths.lock, paths.root / "netkitd.lock"):
            lock.touch(mode=0o600)
            lock.chmod(0o600)
            file = stack.enter_context(open(lock, "a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidSpec(
                    f"another netkitd uses {lock.parent}: give --root and --run of its own"
                ) from None
        yield


@contextlib.contextmanager
def _pidfile(path: str):  # type: ignore[no-untyped-def]
    if not path:
        yield
        return
    Path(path).write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)


async def _serve(
    config: DaemonConfig, paths: Paths, read: Callable[[], DaemonConfig]
) -> None:
    loop = asyncio.get_running_loop()
    stop, hangup = asyncio.Event(), asyncio.Event()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, hangup)):
        loop.add_signal_handler(number, event.set)
    with (
        listening(config) as here,  # before all else: a refused address leaves nothing behind
        ThreadPoolExecutor(WORKERS, thread_name_prefix="netkit-work") as workers,
    ):
        found = [*here.warnings, *filter(None, [Cgroups.probe().warning])]
        for warning in found:
            log.warning("%s", warning)
        config = replace(config, warnings=(*config.warnings, *found))  # shown by `info`, too
        # In a thread: it blocks, and the loop has to run work that parts post to it.
        parts = await asyncio.to_thread(bootstrap, config, paths, loop, workers)
        try:
            await asyncio.to_thread(parts.restore)
            servers = await _answer(parts, here)
            if config.containers:
                parts.recovery.start_by_policy()
            reload = Reload(config, read, parts.engine, parts.engine_id, _level)
            reloading = threads.task("reload", on_signal(hangup, reload))
            _notify("READY=1")
            log.info("ready: engine %s, %s", parts.engine_id, ", ".join(config.listeners))
            # Rows that were read, what was imported: some MiB that are used no more.
            await asyncio.to_thread(malloc.trim, collect=False)
            await stop.wait()
            reloading.cancel()
            log.info("stopping; containers keep running")
            _notify("STOPPING=1")
            for server in servers:
                await server.close()
        finally:
            await _end(parts)


async def _answer(parts: Daemon, here: Listening) -> list[Serving]:
    """Answer requests at all listeners.  Returns servers in the order in which to close them."""
    tally = RequestTally()
    api = await serve(make_app(parts.engine, tally=tally), here.api, tls=here.tls)
    plugin = await serve_plugin(here.plugin, parts.docker)
    metrics = await serve_metrics(here.metrics, parts.metrics, tally)
    return [server for server in (metrics, api, plugin) if server is not None]


async def _end(parts: Daemon) -> None:
    await parts.health.close()
    await asyncio.to_thread(parts.close)


def _notify(state: str) -> None:
    """Notify systemd, if it started the daemon: sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode(), address)
