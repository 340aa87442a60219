"""Call the overlay's process over its control socket."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netkit import errors
from netkit.errors import KernelError, NetkitError, NotFound
from netkit.overlay import verbs
from netkit.overlay.packets import PACKET, Assembly, Broken, packets
from netkit.overlay.verbs import Call, Known, Notification, Refused

ANSWER = 10.0  # seconds beyond what a verb itself may take
SILENT = "the weave overlay does not answer"
ENDED = "the weave overlay ended before it answered: see `netkit weave status`, and try again"
ABSENT = "the weave overlay is not running on this host: netkit weave launch"


class Unanswered(KernelError):
    """The process runs, and did not answer in time."""


class Ended(KernelError):
    """The process ended before it answered: by a stop, or it is started again."""


def listens(control: Path) -> bool:
    """Whether a process has this socket; does not wait."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.setblocking(False)
        try:
            sock.connect(str(control))
        except BlockingIOError:
            return True  # more connections wait than it takes
        except OSError:
            return False
    return True


class Channel:
    """One connection, for one thread.  `patience`: seconds for an answer, beyond what a verb itself
    may take; ANSWER if None.

    Raises:
        NotFound: no process runs.
        Unanswered: it takes no more connections.
    """

    def __init__(self, control: Path, patience: float | None = None) -> None:
        self._patience = ANSWER if patience is None else patience
        self._numbers = itertools.count(1)
        self._assembly = Assembly()
        self._notifications: deque[dict[str, Any]] = deque()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # A connection without a timeout of Python's: with one, too many that wait are an error.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(self._patience))
            self._sock.connect(str(control))
            self._sock.settimeout(self._patience)
        except BlockingIOError as e:
            self._sock.close()
            raise Unanswered(f"{SILENT}: it takes no connections") from e
        except OSError as e:
            self._sock.close()
            raise NotFound(ABSENT) from e

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process (unix(7), SO_PEERCRED)."""
        packed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(packed[:4], "little")

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def call(self, verb: Known) -> Any:
        """The result.

        Raises:
            NetkitError: of the class that the process gave, with its words.
            Ended: it did.
            KernelError: its protocol is another one.
            Unanswered: it does not answer in time.
        """
        number = next(self._numbers)
        deadline = time.monotonic() + self._patience + float(getattr(verb, "seconds", 0.0))
        try:
            for packet in packets(verbs.encode(Call(number, verb))):
                self._sock.send(packet, socket.MSG_NOSIGNAL)
            while True:
                answer = self._receive(deadline)
                if isinstance(answer, Notification):
                    self._notifications.append(answer.what)
                elif answer.number in (number, 0):  # 0: it could not read what was asked
                    break
        except TimeoutError as e:
            self.close()
            raise Unanswered(f"{SILENT}: {e}") from e
        except (OSError, EOFError) as e:
            self.close()
            raise Ended(ENDED) if _has_ended(e) else KernelError(f"{SILENT}: {e}") from e
        if isinstance(answer, Refused):
            raise _error(answer)
        return answer.result

    def events(self, seconds: float | None = None) -> Iterator[dict[str, Any]]:
        """What happens from now on; ends after so many seconds without anything.  KernelError: the
        process ended."""
        self.call(verbs.Subscribe())
        while True:
            while self._notifications:
                yield self._notifications.popleft()
            try:
                answer = self._receive(None if seconds is None else time.monotonic() + seconds)
            except TimeoutError:
                return
            except (OSError, EOFError) as e:
                raise KernelError("the weave overlay has ended") from e
            if isinstance(answer, Notification):
                self._notifications.append(answer.what)

    def waiting(self) -> list[dict[str, Any]]:
        """What happened since the last call, for who has subscribed; does not wait.

        KernelError: the process ended.
        """
        try:
            while True:
                answer = self._receive(0.0)
                if isinstance(answer, Notification):
                    self._notifications.append(answer.what)
        except (BlockingIOError, TimeoutError):
            pass
        except (OSError, EOFError) as e:
            self.close()
            raise KernelError("the weave overlay has ended") from e
        found = list(self._notifications)
        self._notifications.clear()
        return found

    def _receive(self, deadline: float | None) -> verbs.Answer:
        """`deadline` by time.monotonic(); 0: do not wait (BlockingIOError); None: for ever."""
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if deadline == 0.0:
                left = 0.0  # what is there already
            elif left is not None and left <= 0:
                raise TimeoutError("no answer in time")
            self._sock.settimeout(left)
            packet = self._sock.recv(PACKET)
            if not packet:
                raise EOFError
            try:
                message = self._assembly.add(packet)
                if message is not None:
                    return verbs.answer(message)
            except (Broken, *verbs.UNREADABLE) as e:
                raise EOFError(f"it speaks another protocol: {e}") from e

    def close(self) -> None:
        self._sock.close()


def _has_ended(error: OSError | EOFError) -> bool:
    """Whether it closed the connection, or was killed with a question before it."""
    return isinstance(error, ConnectionError) or not error.args


def _timeval(seconds: float) -> bytes:
    """For setsockopt(2): struct timeval."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


def _error(refused: Refused) -> NetkitError:
    """An error of the class that is named, if one can be made of words alone."""
    kind = getattr(errors, refused.kind, None)
    if isinstance(kind, type) and issubclass(kind, NetkitError):
        try:
            return kind(refused.text)
        except TypeError:
            pass
    return NetkitError(refused.text)
