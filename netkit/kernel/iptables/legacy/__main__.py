"""The committing process: serves requests from standard input, a socket, until its end.

    -> {"family": 4, "text": "*nat\\n-N DOCKER\\nCOMMIT\\n", "patience": 10}
    <- {"began": true}                  from here on tables may have changed
    <- {"done": true}
     | {"cannot": why}                  nothing was touched, let the tool try
     | {"failed": why, "line": 2, "errno": 2}

Its first message is {"ready": version of python-iptables} or {"cannot": why}.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from netkit.kernel.iptables.legacy.language import Inexpressible, sections

LOCK = "/run/xtables.lock"  # XT_LOCK_NAME of iptables 1.8; the variable is the tools' too
LOCK_VARIABLE = "XTABLES_LOCKFILE"
POLL = 0.005  # seconds between two attempts at a lock that another process holds


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is meant for the daemon
    with socket.socket(fileno=os.dup(0)) as peer, peer.makefile("rb") as requests:
        try:
            from netkit.kernel.iptables.legacy.commit import VERSION
        except Exception as e:  # noqa: BLE001 - whatever its libraries raise, the tool remains
            _say(peer, cannot=f"python-iptables does not work here: {e}")
            return
        _say(peer, ready=VERSION)
        for line in requests:
            request = json.loads(line)
            _say(peer, **_answer(peer, request))


def _answer(peer: socket.socket, request: dict[str, object]) -> dict[str, object]:
    from netkit.kernel.iptables.legacy.commit import Failed, Staged

    family, patience = int(str(request["family"])), float(str(request["patience"]))
    began = False
    try:
        parts = sections(str(request["text"]))
        with locked(patience):
            staged = [Staged(family, part) for part in parts]
            _say(peer, began=True)  # fails if the daemon has ended: then nothing is committed
            began = True
            for table in staged:
                table.commit()
    except Inexpressible as e:
        if began:  # others changed the table so that it no longer fits
            return {"failed": str(e), "line": None, "errno": errno.EAGAIN}
        return {"cannot": str(e)}
    except Failed as e:
        return {"failed": str(e), "line": e.line, "errno": e.errno}
    except TimeoutError as e:
        return {"failed": str(e), "line": None, "errno": errno.EAGAIN}
    return {"done": True}


@contextmanager
def locked(patience: float) -> Iterator[None]:
    """Hold the lock that all legacy tools take.  TimeoutError after `patience` seconds."""
    path = os.environ.get(LOCK_VARIABLE) or LOCK
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    late = f"another program has held {path} for {patience:g} s"
                    raise TimeoutError(late) from None
                time.sleep(POLL)
        yield
    finally:
        os.close(fd)


def _say(peer: socket.socket, **what: object) -> None:
    peer.sendall(json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
    sys.exit(0)
