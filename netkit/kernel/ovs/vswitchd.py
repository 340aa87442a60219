"""The control socket of ovs-vswitchd.  Source: ovs-appctl(8), ovs-vswitchd(8)."""

from __future__ import annotations

import fcntl
import json
import re
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from netkit.errors import KernelError
from netkit.gone import if_there
from netkit.kernel.ovs import openflow

NAME = "ovs-vswitchd"
USERSPACE = "netdev@ovs-netdev"  # the datapath of all bridges with datapath_type=netdev
# The first versions whose userspace datapath is known to do TSO right, and to do so where what it
# reads has tunnels inside.
SEGMENTS_SINCE, SEGMENTS_TUNNELLED_SINCE = (3, 5), (4, 0)
PATIENCE = 5.0  # seconds for an answer
LONGEST = 1 << 26  # bytes of a reply; ofproto/trace of a large table has some hundred thousand
GREETING = 1.0  # seconds for one in OpenFlow
_RELEASE = re.compile(r"\(Open vSwitch\) (\d+)\.(\d+)")
FLOCK = struct.Struct("@hhqqi0q")  # struct flock, fcntl(2): type, whence, start, length, pid
_RULES = re.compile(r"\brules:(\d+)")


class Vswitchd:
    """The one whose sockets are in `folder`, whatever its pid file and control socket are named."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    @property
    def alive(self) -> bool:
        with suppress(KernelError):
            self.ask("version")
            return True
        return False

    @property
    def runs(self) -> bool:
        """Whether there is such a process, be it one that hangs; usually it is not asked.

        It holds a lock on its pid file, which the kernel takes away with it; an answer takes a
        round of its main loop, some 1.5 ms.  Source: ovs, lib/daemon-unix.c, read_pidfile__.
        """
        with suppress(OSError), (self._folder / f"{NAME}.pid").open("rb") as file:
            found = fcntl.fcntl(file, fcntl.F_GETLK, FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
            if FLOCK.unpack(found)[0] != fcntl.F_UNLCK:
                return True
        return self.alive

    @property
    def serves(self) -> bool:
        """Whether it serves OpenFlow, if it has a bridge.

        It does not while it is without its database; it looks for that after 1, 2, 4 s, then every
        8 s, whenever it may be back.  Source: ovs, vswitchd/bridge.c, bridge_run; lib/reconnect.c.
        """
        for path in sorted(self._folder.glob("*.mgmt")):
            with suppress(ConnectionRefusedError), if_there():  # left by one that was killed
                return openflow.serves(str(path), GREETING)
        return True

    def rules(self) -> int:
        """Count the OpenFlow rules of all bridges; -1 if there is no answer."""
        with suppress(KernelError):
            if found := _RULES.search(self.ask("memory/show")):
                return int(found[1])
        return -1

    def release(self) -> tuple[int, int]:
        """Its version, as (3, 5); (0, 0) if there is no answer."""
        with suppress(KernelError):
            return release_in(self.ask("version"))
        return 0, 0

    def detach(self, port: str) -> None:
        """Take a port out of the userspace datapath, not out of its bridge.

        Returns when the bridge has noticed, or KernelError.  Until then ovs-vswitchd would attach
        the device anew that it has open.
        """
        with suppress(KernelError):  # it is not in the datapath: an attempt before got that far
            self.ask("dpctl/del-if", USERSPACE, port)
        deadline = time.monotonic() + PATIENCE
        while f"\n    {port} " in self.ask("dpif/show"):
            if time.monotonic() > deadline:
                raise KernelError(f"ovs-vswitchd does not let go of port {port}")
            time.sleep(0.01)

    def ask(self, command: str, *argv: str) -> str:
        """Run a command over its control socket; KernelError if it does not run or refuses."""
        reply = self._reply(command, argv)
        if reply.get("error") is not None:
            words = " ".join((command, *argv))
            raise KernelError(f"ovs-vswitchd refuses {words}: {str(reply['error']).strip()}")
        return str(reply.get("result", ""))

    def _reply(self, command: str, argv: Sequence[str]) -> dict[str, object]:
        failed = f"ovs-vswitchd is not running: no control socket in {self._folder}"
        for path in self._sockets():
            try:
                # Other daemons may have control sockets in this folder, too.
                if not path.name.startswith(NAME) and not _is_vswitchd(path):
                    continue
                return _call(str(path), command, argv)
            except (ConnectionRefusedError, FileNotFoundError) as e:  # left by one that was killed
                if path.name.startswith(NAME):  # else as likely another daemon's
                    failed = f"ovs-vswitchd does not answer at {path}: {e}"
            except (OSError, ValueError) as e:
                raise KernelError(f"ovs-vswitchd does not answer at {path}: {e}") from e
        raise KernelError(failed)

    def _sockets(self) -> Iterator[Path]:
        """Where it may listen: by its pid file, by its name, or by its --unixctl."""
        first = []
        with if_there():
            pid = (self._folder / f"{NAME}.pid").read_text().strip()
            first = [self._folder / f"{NAME}.{pid}.ctl", self._folder / f"{NAME}.ctl"]
        yield from first
        rest = [p for p in self._folder.glob("*.ctl") if p not in first]
        rest = [p for p in rest if not p.name.startswith("ovsdb-server")]
        yield from sorted(rest, key=lambda p: (not p.name.startswith(NAME), p.name))


def release_in(text: str) -> tuple[int, int]:
    """The version in what a program of Open vSwitch prints of itself; (0, 0) if there is none."""
    found = _RELEASE.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _is_vswitchd(path: Path) -> bool:
    """Whether ovs-vswitchd listens at a socket of another name."""
    return NAME in str(_call(str(path), "version", ()).get("result"))


def _call(path: str, command: str, argv: Sequence[str]) -> dict[str, object]:
    """OSError, ValueError: there is no answer within PATIENCE, or not one of JSON-RPC."""
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(PATIENCE)
        s.connect(path)
        s.sendall(json.dumps({"id": 0, "method": command, "params": list(argv)}).encode())
        raw = b""
        while chunk := s.recv(1 << 16):
            raw += chunk
            with suppress(json.JSONDecodeError, UnicodeDecodeError):  # not all of it yet
                answer = json.loads(raw)
                if not isinstance(answer, dict) or not answer.keys() & {"error", "result"}:
                    raise ValueError("no reply of JSON-RPC")
                return answer
            if len(raw) > LONGEST:
                raise ValueError(f"its reply is longer than {LONGEST} bytes")
            s.settimeout(max(0.001, deadline - time.monotonic()))
    raise ValueError("the connection was closed before its reply was complete")
