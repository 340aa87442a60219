"""netkitd's side of the resolver: start it, send it changes, restart it if it dies."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from netkit import threads
from netkit.dns import control
from netkit.dns.control import Message
from netkit.dns.process import Dead, Process
from netkit.dns.sockets import OpenSocket, listening
from netkit.dns.zones import ResolverView, Zone
from netkit.errors import Conflict, KernelError

START = 10.0  # seconds the process may take until it listens
AT_ONCE = 2  # messages on its way to it, of 64 KiB at most: no wait for each
FIRST_PAUSE, CALM = 0.1, 5.0  # shortest and longest pause between attempts to start it again

log = logging.getLogger("netkit.dns")


class Resolver:
    """Thread-safe and synchronous.  `folder`, ours alone, holds the control socket and the log.

    The process is started with the first sandbox, in the network namespace of the thread that
    calls `set`, or made this object; its queries to other servers leave from there.
    """

    def __init__(self, folder: Path, open_socket: OpenSocket) -> None:
        self._process = Process(folder)
        self._open_socket = open_socket
        self._lock = threading.RLock()
        self._held: dict[str, tuple[str, ResolverView]] = {}  # what we want: namespace's path, view
        self._there: dict[str, str] = {}  # what it has: the namespaces' marks
        self._sent: dict[str, Zone] = {}  # zones as it has them
        self._fields: dict[str, Message] = {}  # views as it has them, but for the zones' content
        self._made = control.Digests()  # of views to be sent
        self._digests: dict[str, str] = {}  # of views that it had when we connected
        self._closing = False
        self._wake, self._woken = os.pipe2(os.O_CLOEXEC)
        self._watch = threads.looping("dns-watch", self._watching, over=lambda: self._closing)
        self._watch.start()

    def set(self, sandbox_id: str, ns_path: str, view: ResolverView) -> None:
        """Answer queries of the sandbox with this namespace from `view`, from now on.

        Sockets are opened in the namespace unless the resolver has some there already.
        Conflict if its port 53 is taken; KernelError if there is no such namespace, or the
        resolver cannot be started.
        """
        with self._lock:
            self._alive()
            before = self._held.get(sandbox_id)
            self._held[sandbox_id] = (ns_path, view)
            try:
                self._again(lambda: self._put(sandbox_id))
            except BaseException:
                self._held.pop(sandbox_id)
                if before:
                    self._held[sandbox_id] = before
                raise

    def update(self, sandbox_id: str, view: ResolverView) -> None:
        """Replace the view of a sandbox; no error if it was removed."""
        with self._lock:
            if sandbox_id not in self._held:
                return
            self._alive()
            self._held[sandbox_id] = (self._held[sandbox_id][0], view)
            self._again(lambda: self._put(sandbox_id))

    def remove(self, sandbox_id: str) -> None:
        """Close the sandbox's sockets, which else keep its namespace alive."""
        with self._lock:
            self._held.pop(sandbox_id, None)
            with suppress(Dead):
                if self._process.sock is None and not self._connect():
                    return
                if sandbox_id not in self._there:
                    return
                self._forget(self._process.call({"do": "remove", "id": sandbox_id}))
                self._there.pop(sandbox_id, None)
                self._fields.pop(sandbox_id, None)

    def known(self) -> frozenset[str]:
        """Sandboxes the resolver answers, also those that an earlier netkitd set.

        It is asked when we connect to it, which we do again after each lost answer.
        """
        with self._lock:
            if self._process.sock is not None or self._connect():
                return frozenset(self._there)
            return frozenset(self._held)

    def close(self, stop: bool) -> None:
        """Disconnect from the resolver, which runs on, or stop it."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if stop:
                with suppress(Dead):
                    if self._process.sock is not None or self._connect():
                        self._process.call({"do": "quit"})
                        # It hangs up once it has removed its socket's file: not later, when the
                        # next one may have made that anew.
                        self._process.hung_up(START)
            self._process.disconnect()
            os.write(self._woken, b"x")
        self._watch.join()
        os.close(self._wake)
        os.close(self._woken)
        if stop:
            self._process.wait(START)

    # messages to the resolver

    def _put(self, sandbox_id: str) -> None:
        """Send the process the view of one sandbox, as far as it differs."""
        ns_path, view = self._held[sandbox_id]
        mark = _mark(ns_path)
        fresh = self._there.get(sandbox_id) != mark
        sockets = listening(ns_path, self._open_socket, view.address) if fresh else []
        try:
            fields = control.view_fields(view)
            if self._has(sandbox_id, view) and not fresh:
                self._sent |= {zone.id: zone for zone in view.zones}
                self._fields[sandbox_id] = fields
                return
            zones = self._send_zones(view)
            if not fresh and self._fields.get(sandbox_id) == fields:
                if zones:
                    self._process.call_all(zones)
                return
            message = {"do": "set" if fresh else "update", "id": sandbox_id, **fields}
            if fresh:
                message["ns"] = mark
            *_, answer = self._process.call_all([*zones, message], [s.fileno() for s in sockets])
        finally:
            for sock in sockets:
                sock.close()
        self._there[sandbox_id] = mark
        self._fields[sandbox_id] = fields
        self._forget(answer)

    def _has(self, sandbox_id: str, view: ResolverView) -> bool:
        """Has it had all of this view since an earlier daemon, or connection, sent it?"""
        digest = self._digests.pop(sandbox_id, None)
        if digest is None or any(self._sent.get(z.id, z) != z for z in view.zones):
            return False  # a zone was changed since
        return digest == self._made.view(view)

    def _send_zones(self, view: ResolverView) -> list[Message]:
        """Send what differs in the view's zones; the last few messages are returned, to be sent."""
        left: list[Message] = []
        for zone in view.zones:
            left += control.zone_messages(zone, self._sent.get(zone.id))
            self._sent[zone.id] = zone  # if it does not get there, all is sent anew
        while len(left) > AT_ONCE:
            self._process.call(left.pop(0))
        return left

    def _forget(self, answer: Message) -> None:
        for zone in answer["dropped"]:
            self._sent.pop(zone, None)

    # the process

    def _again(self, send: Callable[[], None]) -> None:
        """Send to it; if it is or gets dead, restart it and send once more."""
        try:
            send()
        except Dead as first:
            log.warning("the resolver has ended (%s), starting it again", first)
            self._process.disconnect()
            try:
                self._alive()
                send()
            except Dead as e:
                raise KernelError(f"the DNS resolver does not answer: {e}") from e

    def _alive(self) -> None:
        """Connect to a process, started if need be, and send it all views."""
        if self._process.sock is not None:
            return
        deadline = time.monotonic() + START
        try:
            while not self._connect():
                if time.monotonic() > deadline:
                    raise KernelError(f"the DNS resolver does not start, see {self._process.log}")
                if not self._process.alive:
                    self._process.spawn()
                    time.sleep(0.05)  # no sooner can it listen, or another attempt make sense
                time.sleep(0.005)
        except (Dead, OSError) as e:
            raise KernelError(f"cannot start the DNS resolver: {e}") from e
        os.write(self._woken, b"x")  # watch this one
        for sandbox_id in list(self._held):
            try:
                self._put(sandbox_id)
            except (Conflict, KernelError, Dead) as e:
                log.warning("sandbox %s has no names: %s", sandbox_id, e)
            except Exception as e:  # noqa: BLE001  reported, and the others get theirs
                threads.report(f"giving sandbox {sandbox_id[:12]} its names", e)

    def _connect(self) -> bool:
        """Find a running process and learn what it has."""
        if not self._process.connect():
            return False
        self._sent, self._fields, self._digests = {}, {}, {}
        self._made = control.Digests()
        try:
            self._there = self._listed()
        except Dead:  # it was just ending
            return False
        return True

    def _listed(self) -> dict[str, str]:
        """Ask for the sandboxes it answers, with the marks of their namespaces."""
        found: dict[str, str] = {}
        while True:
            answer = self._process.call({"do": "list", "after": max(found, default="")})
            found |= answer["sandboxes"]
            # One of an earlier version has none.
            digests = answer.get("digests", ())
            self._digests |= dict(zip(sorted(answer["sandboxes"]), digests, strict=False))
            if not answer.get("more"):
                return found

    def _watching(self) -> None:
        """Restart the process when it dies between two calls."""
        pause = FIRST_PAUSE
        while not self._closing:
            watched = self._process.sock
            if watched is not None:
                self._wait(watched, None)
            elif self._held:
                self._wait(None, pause)  # an attempt has failed
                pause = min(CALM, pause * 2)
            else:
                self._wait(None, None)
            with self._lock:
                if self._closing or self._process.sock is not watched:
                    continue
                if not self._process.hung_up():
                    continue
                self._process.disconnect()
                if not self._held:
                    continue
                log.warning("the resolver has ended, starting it again")
                try:
                    self._alive()
                    pause = FIRST_PAUSE
                except KernelError as e:
                    log.error("%s", e)

    def _wait(self, watched: socket.socket | None, seconds: float | None) -> None:
        """Wait for the end of the process, a wake-up, or the timeout."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        with suppress(ValueError, OSError):  # it was closed this very moment
            if watched is not None:
                poll.register(watched, 0)  # a hang-up only: answers are read by `call`
        found = poll.poll(None if seconds is None else seconds * 1000)
        if any(fd == self._wake for fd, _ in found):
            os.read(self._wake, 512)


def _mark(ns_path: str) -> str:
    """Identify the namespace: a container that starts again has another at the same path."""
    try:
        found = os.stat(ns_path)
    except OSError as e:
        raise KernelError(f"no network namespace {ns_path}: {e.strerror}", errno=e.errno) from e
    return f"{found.st_dev}:{found.st_ino}"
