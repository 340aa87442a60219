"""The control socket of ovs-vswitchd.  Source: ovs-appctl(8), ovs-vswitchd(8)."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel import openflow

PATIENCE = 5.0  # seconds for an answer
GREETING = 1.0  # seconds for one in OpenFlow
_RULES = re.compile(r"\brules:(\d+)")


class Vswitchd:
    """The one whose sockets are in `folder`."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @property
    def alive(self) -> bool:
        with suppress(KernelError):
            self.ask("version")
            return True
        return False

    @property
    def serves(self) -> bool:
        """Does it speak OpenFlow, if it has a bridge?

        It does not while it is without its database; it looks for that after 1, 2, 4 s, then every
        8 s, whenever it may be back.  Source: ovs, vswitchd/bridge.c, bridge_run; lib/reconnect.c.
        """
        for path in sorted(self._folder.glob("*.mgmt")):
            with suppress(OSError):  # left by one that was killed
                return openflow.serves(str(path), GREETING)
        return True

    def rules(self) -> int:
        """How many OpenFlow rules there are in all bridges together; -1 if there is no answer."""
        with suppress(KernelError):
            if told := _RULES.search(self.ask("memory/show")):
                return int(told[1])
        return -1

    def ask(self, command: str, *argv: str) -> str:
        """KernelError if it is not there, or says no."""
        path = self._socket()
        if path is None:
            raise KernelError(f"ovs-vswitchd is not running: no control socket in {self._folder}")
        try:
            reply = _call(path, command, argv)
        except (OSError, ValueError) as e:
            raise KernelError(f"ovs-vswitchd does not answer at {path}: {e}") from e
        if reply.get("error") is not None:
            words = " ".join((command, *argv))
            raise KernelError(f"ovs-vswitchd refuses {words}: {str(reply['error']).strip()}")
        return str(reply["result"])

    def _socket(self) -> str | None:
        with suppress(OSError):
            pid = (self._folder / "ovs-vswitchd.pid").read_text().strip()
            for name in (f"ovs-vswitchd.{pid}.ctl", "ovs-vswitchd.ctl"):
                if os.path.exists(self._folder / name):
                    return str(self._folder / name)
        return None


def _call(path: str, command: str, argv: Sequence[str]) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(PATIENCE)
        s.connect(path)
        s.sendall(json.dumps({"id": 0, "method": command, "params": list(argv)}).encode())
        raw = b""
        while chunk := s.recv(1 << 16):
            raw += chunk
            with suppress(ValueError):
                answer: dict[str, object] = json.loads(raw)
                return answer
    raise ValueError("the connection was closed")
