"""NICs as ports of our bridges: seen, made and removed.  How they move: `handover`."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.adapter import Adapter
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink
from netkit.kernel.netlink.observe import MARK
from netkit.kernel.segment import arp_probe
from netkit.kernel.session import Session
from netkit.kernel.uplink.addresses_routes import Belongings, give, read
from netkit.kernel.uplink.handover import (
    PATIENCE,
    Desk,
    Journal,
    look,
    recover,
    space,
    to_bridge,
    to_nic,
)
from netkit.model import HOST, Key, Resource
from netkit.model.uplink import EnslavedNic
from netkit.reconcile.plan import Op

ANSWER = 0.6  # seconds a neighbour has to answer before it is moved
ANSWER_AGAIN = 5.0  # and after it: ports of switches may have to learn
ETHERNET = "the NIC of a lan network must be an Ethernet interface that is no port of a bridge"


class Uplinks:
    """Of the namespace at `home`."""

    def __init__(self, home: str, desk: Desk, patience: float = PATIENCE) -> None:
        self._home = home
        self._desk = desk
        self._patience = patience
        # By NIC, what its bridge had when it was last seen: deleting the bridge deletes that.
        self._had: dict[str, Belongings] = {}
        self._fallen: set[str] = set()  # NICs whose bridge was down when it was last seen

    def adapter(self) -> Adapter:
        return Adapter(
            types=(EnslavedNic,),
            kinds=frozenset({"uplink"}),
            observe=self.observe,
            apply=self.apply,
            owned=self.owned,
            placed=True,
        )

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Those that exist, after what a kill left half-way has been put back."""
        out: dict[Key, Resource] = {}
        for key in keys:
            self._recover(session, key[2])
            if (found := _seen(session, key[2])) is not None:
                out[key] = replace(found, routed=not self._lost(session, found).routes)
        return out

    def _lost(self, session: Session, r: EnslavedNic) -> Belongings:
        """Routes that went when the bridge was set down; else remember what the bridge has."""
        bridge = session.link(HOST, r.bridge)
        if r.owner is None or bridge is None:
            return Belongings()
        try:
            there = read(session.netlink(HOST), (bridge.index, bridge.name))
        except KernelError:  # some of it cannot be moved: nor could it be given back
            return Belongings()
        if not bridge.up:
            self._fallen.add(r.dev)
        if r.dev in self._fallen:
            had = self._had.get(r.dev, there)
            missing = tuple(route for route in had.routes if route not in there.routes)
            if missing or not bridge.up:
                return Belongings(routes=missing)
            self._fallen.discard(r.dev)
        self._had[r.dev] = there
        return Belongings()

    def _route_again(self, session: Session, r: EnslavedNic) -> None:
        session.forget_links()
        bridge = session.link(HOST, r.bridge)
        if bridge is None or not bridge.up:
            raise KernelError(f"{r.bridge} is down: its routes cannot be added")
        lost = self._lost(session, r)
        # Not checked: a route over another one that is no more cannot come back.
        session.netlink(HOST).run(give(lost, (bridge.index, bridge.name)))
        self._fallen.discard(r.dev)

    def owned(self, session: Session, prefix: str) -> dict[Key, Resource]:
        """Ports of bridges whose mark starts with `prefix`, that have no mark themselves."""
        for journal in sorted(self._desk.folder.glob("*.json")):
            self._recover(session, journal.stem)
            session.forget_links()
        links = session.all_links(HOST)
        ours = {s.index for s in links if s.alias.startswith(prefix) and s.kind == "bridge"}
        ports = [s for s in links if s.master in ours and not s.alias.startswith(MARK)]
        found = (_seen(session, s.name) for s in ports)
        return {r.key: r for r in found if r is not None}

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        for done, op in enumerate(ops):
            try:
                match op.before, op.after:
                    case None, EnslavedNic() as after:
                        self._connect(session, after)
                    case EnslavedNic() as before, None:
                        self._disconnect(session, before)
                    case EnslavedNic() as before, EnslavedNic() as after if not before.routed:
                        self._route_again(session, after)
                    case _:
                        raise KernelError(f"{op}: an uplink cannot be changed in place")
            except KernelError as e:
                e.done = done
                raise
            finally:
                session.forget_links()

    def _connect(self, session: Session, r: EnslavedNic) -> None:
        netlink = session.netlink(HOST)
        nic, bridge = _must(netlink, r.dev), _must(netlink, r.bridge)
        _check_nic(nic)
        belongings = read(netlink, (nic.index, nic.name))
        if not belongings.addresses:
            belongings = self._had.get(r.dev, belongings)
        neighbours = self._answering(r.dev, belongings, belongings.gateways, ANSWER)

        def move() -> None:
            to_bridge(netlink, nic, bridge, belongings)
            self._must_answer(r, belongings, neighbours)

        def back() -> None:
            to_nic(netlink, _must(netlink, r.dev), bridge, belongings)

        self._watched(r, belongings, move, back)

    def _disconnect(self, session: Session, r: EnslavedNic) -> None:
        self._had.pop(r.dev, None)
        netlink = session.netlink(HOST)
        nic, bridge = look(netlink, r.dev), look(netlink, r.bridge)
        if nic is None or bridge is None or nic.master != bridge.index:
            return  # unplugged, or detached by another tool: no NIC to move addresses to
        belongings = read(netlink, (bridge.index, bridge.name))

        def move() -> None:
            to_nic(netlink, nic, bridge, belongings)

        self._watched(r, belongings, move, move)

    def _watched(
        self, r: EnslavedNic, b: Belongings, move: Callable[[], None], back: Callable[[], None]
    ) -> None:
        token = secrets.token_hex(8)
        with netns.inside(self._home):
            here = space()
        journal = Journal(token=token, dev=r.dev, bridge=r.bridge, space=here, belongings=b)
        with self._watchdog(r.dev, token):
            with self._desk.lock(r.dev):
                self._desk.write(journal)
            try:
                move()
                self._confirm(r.dev, token)
            except BaseException as error:
                try:
                    back()
                    self._desk.done(r.dev)
                except KernelError as bad:
                    error.add_note(f"could not put {r.dev} back: {bad}")
                raise

    def _confirm(self, dev: str, token: str) -> None:
        with self._desk.lock(dev):
            journal = self._desk.read(dev)
            if journal is None or journal.token != token:
                raise KernelError(
                    f"moving {dev} took over {self._patience:g} s and was undone meanwhile"
                )
            self._desk.done(dev)

    @contextmanager
    def _watchdog(self, dev: str, token: str) -> Iterator[None]:
        argv = [sys.executable, "-m", "netkit.kernel.uplink.watchdog"]
        argv += [str(self._desk.folder), dev, token, f"{self._patience:g}"]
        with netns.inside(self._home):
            dog = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # what ends the daemon's group must not end it
            )
        assert dog.stdin is not None
        assert dog.stdout is not None
        try:
            if dog.stdout.readline() != b"armed\n":
                raise KernelError(f"the watchdog for moving {dev} did not start: nothing was moved")
            yield
        finally:
            dog.stdin.close()
            dog.stdout.close()
            dog.wait()

    def _answering(
        self, link: str, b: Belongings, wanted: Sequence[IPv4Address], seconds: float
    ) -> list[IPv4Address]:
        if not wanted or not b.ipv4:
            return []
        return sorted(arp_probe.answers(self._home, link, wanted, b.ipv4[0], seconds))

    def _must_answer(self, r: EnslavedNic, b: Belongings, wanted: Sequence[IPv4Address]) -> None:
        end = time.monotonic() + min(ANSWER_AGAIN, self._patience / 2)
        left = set(wanted)
        while left:
            left -= set(self._answering(r.bridge, b, sorted(left), ANSWER))
            if left and time.monotonic() > end:
                who = ", ".join(map(str, sorted(left)))
                raise KernelError(
                    f"{who} answered on {r.dev} and does not on {r.bridge}: all is as before"
                )

    def _recover(self, session: Session, dev: str) -> None:
        if not self._desk.file(dev).exists():
            return
        with netns.inside(self._home):
            here = space()
        with self._desk.lock(dev):
            recover(self._desk, dev, session.netlink(HOST), here)
        session.forget_links()


def _seen(session: Session, dev: str) -> EnslavedNic | None:
    nic = session.link(HOST, dev)
    bridge = session.link(HOST, nic.master) if nic is not None and nic.master else None
    if nic is None or bridge is None:
        return None
    owner = bridge.alias if bridge.alias.startswith(MARK) else None
    return EnslavedNic(dev=dev, bridge=bridge.name, owner=owner)


def _must(netlink: Netlink, name: str) -> rtnl.SeenLink:
    found = look(netlink, name)
    if found is None:
        raise KernelError(f"there is no interface {name}")
    return found


def _check_nic(nic: rtnl.SeenLink) -> None:
    if nic.kind == "bridge":
        raise KernelError(f"{nic.name} is a bridge: use it with -o bridge={nic.name}; {ETHERNET}")
    if nic.master:
        raise KernelError(f"{nic.name} is part of another interface: {ETHERNET}")
    if len(nic.mac) != 17 or nic.mac == "00:00:00:00:00:00":
        raise KernelError(f"{nic.name} has no MAC address: {ETHERNET}")
