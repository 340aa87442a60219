"""Move a NIC's addresses and routes to a bridge and back, so that a kill in between is undone.

    prepare   watchdog: a process of its own, reports "armed"  deadman
              journal: whose belongings, and what they were     -> file, fsync
    move      the NIC is a port, the bridge has what it had     one netlink send
    confirm   looked at, and the neighbours that answered before answer again
              -> the journal is unlinked: from here on it has happened

Until it is confirmed, the watchdog puts everything back on the NIC: at once when the mover ends,
and after PATIENCE seconds whatever the mover does.  If the watchdog was killed, too, whichever
process reads the journal next does it.  Moving back is the same with the outcome known
beforehand: what is cut short is finished.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink, Request
from netkit.kernel.uplink.addresses_routes import (
    Belongings,
    as_text,
    give,
    of_text,
    read,
    surplus,
    take,
)

PATIENCE = 10.0  # seconds from the preparation to the confirmation
FINE = frozenset({errno.EEXIST, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What is to be on the NIC if a move is not confirmed.

    `space` is the namespace's inode; `token` distinguishes this move from others of the same NIC.
    """

    token: str
    dev: str
    bridge: str
    space: int
    belongings: Belongings


@dataclass(frozen=True, slots=True)
class Desk:
    """The journals of one netkit, below /run: a reboot makes them void, and deletes them."""

    folder: Path

    def file(self, dev: str) -> Path:
        return self.folder / f"{dev}.json"

    @contextmanager
    def lock(self, dev: str) -> Iterator[None]:
        """Hold the lock to finish or undo a journal's move.  Released with its process."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.folder / f"{dev}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def write(self, j: Journal) -> None:
        fresh = self.folder / f"{j.dev}.new"
        said = {"token": j.token, "bridge": j.bridge, "space": j.space}
        text = json.dumps({**said, **as_text(j.belongings)})
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        fresh.rename(self.file(j.dev))

    def read(self, dev: str) -> Journal | None:
        try:
            said = json.loads(self.file(dev).read_text())
        except FileNotFoundError:
            return None
        belongings = of_text({k: said[k] for k in ("addresses", "routes")})
        return Journal(
            token=said["token"],
            dev=dev,
            bridge=said["bridge"],
            space=said["space"],
            belongings=belongings,
        )

    def done(self, dev: str) -> None:
        """Delete a journal; no error if there is none."""
        self.file(dev).unlink(missing_ok=True)


def space() -> int:
    """Return the inode of the calling thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def look(netlink: Netlink, name: str) -> rtnl.SeenLink | None:
    reply = netlink.run([rtnl.get_link(name)])[0]
    return rtnl.seen_link(reply.messages[0]) if reply.messages else None


def to_bridge(netlink: Netlink, nic: rtnl.SeenLink, bridge: rtnl.SeenLink, b: Belongings) -> None:
    """Make before break: an address that is nowhere, if only for a moment, takes with it the
    routes of other links that have it as their source."""
    port = [
        rtnl.set_link(bridge.index, mac=nic.mac, mtu=nic.mtu, up=True),
        rtnl.set_link(nic.index, master=bridge.index, up=True),
    ]
    for reply in netlink.run(port):
        reply.check(f"make {nic.name} a port of {bridge.name}")
    _pass(netlink, b, nic, bridge)


def to_nic(
    netlink: Netlink, nic: rtnl.SeenLink, bridge: rtnl.SeenLink | None, b: Belongings
) -> None:
    """Move everything back to the NIC, from any state of a move.  Idempotent."""
    if bridge is not None and nic.master == bridge.index:
        reply = netlink.run([rtnl.set_link(nic.index, master=0)])[0]
        reply.check(f"take {nic.name} out of {bridge.name}")
    _pass(netlink, b, bridge, nic)


def _pass(netlink: Netlink, b: Belongings, old: rtnl.SeenLink | None, new: rtnl.SeenLink) -> None:
    to = (new.index, new.name)
    _run(netlink, give(b, to), f"give {new.name} what is to be on it")
    if old is not None:
        _run(netlink, take(b, (old.index, old.name)), f"take from {old.name} what was on it")
    # Routes that the kernel adds with an address, but the user had deleted, are deleted again.
    _run(netlink, take(surplus(b, read(netlink, to)), to), f"tidy the routes of {new.name}")
    if lost := b.missing(read(netlink, to)):
        raise KernelError(f"{new.name} did not get {lost}")


def _run(netlink: Netlink, requests: list[Request], what: str) -> None:
    for reply in netlink.run(requests):
        if reply.errno not in FINE:
            reply.check(what)


def recover(desk: Desk, dev: str, netlink: Netlink, here: int, token: str = "") -> bool:
    """Undo what was not confirmed; with `token`, of this move only.  True if there was any.

    With the lock held.  A journal of another namespace is of a deleted host: nothing of it
    can be undone.
    """
    journal = desk.read(dev)
    if journal is None or token not in {"", journal.token}:
        return False
    nic = look(netlink, dev) if journal.space == here else None
    if nic is not None:
        to_nic(netlink, nic, look(netlink, journal.bridge), journal.belongings)
    desk.done(dev)
    return nic is not None
