"""The resolver: one process, one thread, for all containers of one netkitd, which it outlives.

    netkitd --control socket--> zones, views, sockets     container --127.0.0.11:53--> Station
                                                          Station --Forwarder--> upstream servers

The sockets were opened by netkitd in the containers' namespaces.  This process never enters
one: what it forwards leaves from the namespace it was started in, netkitd's.
"""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import selectors
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from netkit.dns import control
from netkit.dns.control import Message
from netkit.dns.forward import Forwarder
from netkit.dns.listen import Station
from netkit.dns.zones import ResolverView, Zone

LONELY = 10.0  # seconds without a container and without netkitd, after which we end
UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)
TICK = 1.0  # seconds between looks at idle connections

log = logging.getLogger("netkit.dns")


class Refused(Exception):
    """An invalid message; its text is the answer."""


class Server:
    def __init__(self, listener: socket.socket, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._forwarder = Forwarder(self._selector, clock)
        self._listener = listener
        self._daemons: set[socket.socket] = set()
        self._zones: dict[str, Zone] = {}
        self._parts: dict[str, list[Message]] = {}  # of zones received in part
        self._fields: dict[str, Message] = {}  # by sandbox, see control.view_fields
        self._marks: dict[str, str] = {}  # by sandbox: which namespace its sockets are in
        self._stations: dict[str, Station] = {}
        self._active = clock()
        self._ending = False
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, lambda mask: self._accept())

    def run(self) -> None:
        """Serve until a quit message, or until there is no sandbox and no daemon for LONELY s."""
        swept = self._clock()
        while not self._ending:
            due = self._expired()
            for key, mask in self._selector.select(TICK if due is None else min(due, TICK)):
                self._dispatch(key.data, mask)
            if (now := self._clock()) - swept >= TICK:
                swept = now
                for station in self._stations.values():
                    self._dispatch(lambda _, s=station: s.expire(), 0)  # type: ignore[misc]
            self._lonely(now)

    def _expired(self) -> float | None:
        try:
            return self._forwarder.expire()
        except Exception:  # reported; the other queries go on
            log.exception("unexpected")
            return None

    def close(self) -> None:
        for id in list(self._stations):
            self._remove(id)
        for daemon in self._daemons:
            daemon.close()
        self._listener.close()
        self._selector.close()

    def _dispatch(self, ready: Callable[[int], None], mask: int) -> None:
        try:
            ready(mask)
        except Exception:  # one bad query must not silence all containers
            log.exception("unexpected")

    def _lonely(self, now: float) -> None:
        if self._stations or self._daemons:
            self._active = now
        elif now - self._active > LONELY:
            log.info("no sandbox and no daemon for %d s: ending", LONELY)
            self._ending = True

    # the daemon's side

    def _accept(self) -> None:
        try:
            daemon, _ = self._listener.accept()
        except OSError:
            return
        try:
            peer = daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
            _, uid, _ = UCRED.unpack(peer)
            if uid not in {0, os.geteuid()}:
                daemon.close()
                return
            daemon.settimeout(5)  # to send an answer; what there is to read is there
            self._selector.register(daemon, selectors.EVENT_READ, lambda mask: self._serve(daemon))
        except BaseException:
            daemon.close()
            raise
        self._daemons.add(daemon)

    def _serve(self, daemon: socket.socket) -> None:
        try:
            message, fds = control.receive(daemon)
        except (EOFError, OSError):
            self._leave(daemon)
            return
        except ValueError as e:
            self._answer(daemon, {"error": str(e)})
            return
        except BaseException:
            self._leave(daemon)  # which would wait for an answer
            raise
        sockets = [socket.socket(fileno=fd) for fd in fds]
        try:
            answer = self._obey(message, sockets)
        except (Refused, KeyError, TypeError) as e:
            answer = {"error": str(e) if isinstance(e, Refused) else f"not understood: {e!r}"}
        except Exception as e:
            log.exception("unexpected")
            answer = {"error": f"unexpected {type(e).__name__}: {e}"}
        if "error" in answer:
            for sock in sockets:
                sock.close()
        self._answer(daemon, answer)

    def _answer(self, daemon: socket.socket, answer: Message) -> None:
        try:
            control.send(daemon, answer)
        except Exception as error:
            self._leave(daemon)
            if not isinstance(error, OSError):
                raise

    def _leave(self, daemon: socket.socket) -> None:
        self._selector.unregister(daemon)
        self._daemons.discard(daemon)
        daemon.close()
        # The rest of a zone does not come any more; another connection starts with whole zones.
        self._parts.clear()

    def _list(self, after: str) -> Message:
        ids = sorted(id for id in self._marks if id > after)
        page = {id: self._marks[id] for id in ids[: control.LISTED]}
        digests = control.Digests()
        return {
            "sandboxes": page, "pid": os.getpid(), "more": len(ids) > len(page),
            "digests": [digests.view(self._view(id)) for id in page],
        }  # fmt: skip

    def _obey(self, message: Message, sockets: list[socket.socket]) -> Message:
        match message["do"]:
            case "zone":
                self._zone(message)
                return {}
            case "set":
                return self._set(message, sockets)
            case "update":
                return self._update(message)
            case "remove":
                self._remove(message["id"])
                return self._drop_zones()
            case "list":
                return self._list(message.get("after", ""))
            case "quit":
                self._ending = True
                return {}
            case other:
                raise Refused(f"there is no message {other!r}")

    def _zone(self, message: Message) -> None:
        id = message["id"]
        if not message["reset"] and id not in self._zones:
            raise Refused(f"zone {id} is unknown")
        parts = self._parts.setdefault(id, [])
        parts.append(message)
        if not message["more"]:
            self._zones[id] = control.changed_zone(self._zones.get(id), self._parts.pop(id))

    def _set(self, message: Message, sockets: list[socket.socket]) -> Message:
        id, fields = message["id"], self._checked(message)
        mark = str(message["ns"])
        if not sockets:
            raise Refused(f"sandbox {id} came without sockets")
        self._remove(id)
        self._stations[id] = Station(
            id, sockets, self._selector, self._forwarder, lambda: self._view(id), self._clock
        )
        self._fields[id], self._marks[id] = fields, mark
        return self._drop_zones()

    def _update(self, message: Message) -> Message:
        id = message["id"]
        if id not in self._stations:
            raise Refused(f"sandbox {id} is unknown")
        self._fields[id] = self._checked(message)
        return self._drop_zones()

    def _checked(self, message: Message) -> Message:
        for zone in message["zones"]:
            if zone not in self._zones:
                raise Refused(f"zone {zone} is unknown")
        links = {alias: tuple(found) for alias, found in message["links"].items()}
        return {
            "zones": tuple(message["zones"]),
            "links": links,
            "upstreams": tuple(message["upstreams"]),
            "forward": bool(message["forward"]),
        }

    def _view(self, id: str) -> ResolverView:
        fields = self._fields[id]
        return ResolverView(
            zones=tuple(self._zones[z] for z in fields["zones"]),
            links=fields["links"],
            upstreams=fields["upstreams"],
            forward=fields["forward"],
        )

    def _remove(self, id: str) -> None:
        station = self._stations.pop(id, None)
        if station is None:
            return
        # First: one whose sockets cannot be closed is not listed as if it were answered.
        del self._fields[id], self._marks[id]
        station.close()

    def _drop_zones(self) -> Message:
        needed = {z for fields in self._fields.values() for z in fields["zones"]}
        gone = [z for z in self._zones if z not in needed]
        for z in gone:
            del self._zones[z]
        return {"dropped": gone}


def serve(path: Path) -> None:
    """Listen for netkitd at `path` and answer containers.  SystemExit if another one does."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        raise SystemExit(f"another resolver serves {path}") from e
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two sockets for each container
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.umask(0o077)
    listener.bind(str(path))
    listener.listen(8)
    server = Server(listener)
    log.info("pid %d answers containers, control socket %s", os.getpid(), path)
    try:
        server.run()
    finally:
        path.unlink(missing_ok=True)  # still under the lock: it is ours
        server.close()
        os.close(lock)
