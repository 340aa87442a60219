"""The routes of the userspace datapath's tunnels, told to ovs-vswitchd by its control socket.

It forgets them when it ends.  Source: ovs-vswitchd(8), "ovs/route"; ovs-appctl(8).
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel.ovsdb import Ovsdb
from netkit.model import Key, Resource
from netkit.ovs import OvsRoute
from netkit.plan import Op

PATIENCE = 5.0  # seconds for an answer
_ROUTE = re.compile(r"^User: (\S+) dev (\S+) GW (\S+)", re.M)


class Routes:
    def __init__(self, database: Ovsdb) -> None:
        self._db = database

    def observe(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        wanted = set(keys)
        if self._socket() is None:
            return {}
        found = (
            OvsRoute(dst=ip_network(dst), bridge=bridge, gateway=ip_address(gateway))
            for dst, bridge, gateway in _ROUTE.findall(self._ask("ovs/route/show"))
        )
        return {r.key: r for r in found if r.key in wanted}

    def apply(self, ops: Sequence[Op]) -> None:
        """Set in order; deleting one does nothing."""
        for done, op in enumerate(ops):
            if not isinstance(op.after, OvsRoute):
                continue
            r = op.after
            try:
                with suppress(KernelError):  # there is none, mostly
                    self._ask("ovs/route/del", str(r.dst))
                self._ask("ovs/route/add", str(r.dst), r.bridge, str(r.gateway))
            except KernelError as e:
                e.done = done
                raise

    def _ask(self, command: str, *argv: str) -> str:
        path = self._socket()
        if path is None:
            raise KernelError(f"no control socket of ovs-vswitchd in {self._db.folder}")
        try:
            reply = _call(path, command, argv)
        except (OSError, ValueError) as e:
            raise KernelError(f"ovs-vswitchd does not answer at {path}: {e}") from e
        if reply.get("error") is not None:
            words = " ".join((command, *argv))
            raise KernelError(f"ovs-vswitchd refuses {words}: {str(reply['error']).strip()}")
        return str(reply["result"])

    def _socket(self) -> str | None:
        folder = Path(self._db.folder)
        with suppress(OSError):
            pid = (folder / "ovs-vswitchd.pid").read_text().strip()
            for name in (f"ovs-vswitchd.{pid}.ctl", "ovs-vswitchd.ctl"):
                if os.path.exists(folder / name):
                    return str(folder / name)
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
