"""Addresses of containers on networks of the overlay, as its process allocates them.

    a container starts --> allocate, claim                              (threads of operations)
    rows changed       --> Held, compared with rows --> Release, Claim  (the thread that follows)

The rows are the truth.  What has an address in the process and not in a row is either inside
`holding`, about to write the row, or has lost it: then it is released.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network
from typing import Any, NamedTuple

from netkit.errors import Busy, Conflict, KernelError, NetkitError, NotFound
from netkit.network.overlay_networks import OverlayNetworks
from netkit.overlay import verbs
from netkit.overlay.client import Channel
from netkit.overlay.service import Service
from runtime.network.weave.desired import network as described
from runtime.network.weave.following import Problems

PATIENCE = 15.0  # seconds that an operation waits for an address, or for others to agree
STARTING, AGAIN = 10.0, 0.1  # seconds that it waits for the process to run, and between looks
CLAIMING = 2.0  # seconds that the thread that follows waits for one claim
RELEASING = 10.0  # seconds that an operation waits for a release of the same holder's to end
AT_LEAST = 25.0  # seconds between comparisons at most, where somebody asks for them
AT_ONCE = 16  # connections of operations to the process, which takes 64 of all clients
EXPOSED = "weave:expose"  # the holder of the host's own addresses
SHORT = 12  # characters of a network's id

log = logging.getLogger("netkit.weave")


class Holding(NamedTuple):
    """An address, and who has it."""

    ident: str
    address: str  # without a length


def ident_of(network: str, holder: str) -> str:
    """What a holder on a network is called in the process."""
    return f"{holder}:{network[:SHORT]}"


class AllocatedAddresses:
    """Implements netkit.network.overlay_addresses.OverlayAddresses; `connect` before it is used."""

    def __init__(self, overlay: Service) -> None:
        self.overlay = overlay
        self._host: OverlayNetworks | None = None
        self._notify: Callable[[], None] = lambda: None
        self._unable: Callable[[], str] = lambda: ""
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._guard = threading.Condition()
        self._busy: Counter[str] = Counter()  # idents inside `holding`
        self._releasing: set[str] = set()
        self._due, self._next = True, 0.0  # by time.monotonic(), unless it is due before
        self._claimed: set[Holding] = set()  # of this process, of rows that it does not list

    def connect(
        self, host: OverlayNetworks, notify: Callable[[], None], unable: Callable[[], str]
    ) -> None:
        """`unable`: why the process cannot be started; "": it may run soon, if it does not."""
        self._host, self._notify, self._unable = host, notify, unable

    # -- operations ------------------------------------------------------------------------------

    def allocate(self, network: str, subnet: IPv4Network, holder: str) -> IPv4Interface | None:
        if not self.overlay.launched:
            return None
        ask = verbs.Allocate(
            ident=ident_of(network, holder), network=network, subnet=str(subnet), seconds=PATIENCE
        )
        return IPv4Interface(self._ask(network, ask))

    def claim(self, network: str, address: IPv4Interface, holder: str) -> None:
        if not self.overlay.launched:
            return
        ask = verbs.Claim(
            ident=ident_of(network, holder), network=network, address=str(address),
            seconds=PATIENCE,
        )  # fmt: skip
        deadline = time.monotonic() + RELEASING
        again = True
        while True:
            try:
                self._ask(network, ask)
            except Conflict:
                if time.monotonic() > deadline or not again:
                    raise
                # Another's, or released since it was refused: the second refusal stands.
                again = self._being_released(str(address.ip))
                if again:
                    self.notify_changed()
                    time.sleep(AGAIN)
            else:
                return

    def _being_released(self, address: str) -> bool:
        """Whether its holder, of this host, lost its row a moment ago."""
        held = {Holding(*each) for each in self._ask("", verbs.Held())}
        lost = [each for each in held - self._wanted().keys() if each.address == address]
        with self._guard:
            return any(_ours(each.ident) and each.ident not in self._busy for each in lost)

    def release(self, network: str, address: IPv4Interface, holder: str) -> None:
        if self.overlay.launched:
            ident = ident_of(network, holder)
            self._ask(network, verbs.Release(ident=ident, address=str(address.ip)))

    @contextmanager
    def holding(self, network: str, holder: str) -> Iterator[None]:
        ident = ident_of(network, holder)
        with self._guard:
            self._busy[ident] += 1
            self._guard.wait_for(lambda: ident not in self._releasing, RELEASING)
        try:
            yield
        finally:
            with self._guard:
                self._busy[ident] -= 1
                if not self._busy[ident]:
                    del self._busy[ident]
            self.notify_changed()  # it may have failed, and have asked for what has no row

    def notify_changed(self) -> None:
        self._due = True
        self._notify()

    def _ask(self, network: str, verb: verbs.Known) -> Any:
        """Busy: it does not answer, or does not run."""
        with self._slots, self._channel() as channel:
            try:
                return self._ask_of_known(channel, network, verb)
            except KernelError as error:
                raise Busy(str(error)) from error

    def _channel(self) -> Channel:
        """As soon as it runs: after a reboot, or a crash, that takes a second."""
        deadline = time.monotonic() + STARTING
        while True:
            try:
                return self.overlay.channel()
            except KernelError as error:
                raise Busy(str(error)) from error
            except NotFound:
                if why := self._unable():
                    raise Busy(why) from None
                if time.monotonic() > deadline or not self.overlay.launched:
                    raise Busy(
                        "the weave overlay was launched on this host and does not run: see "
                        "netkit weave status"
                    ) from None
            time.sleep(AGAIN)

    def _ask_of_known(self, channel: Channel, network: str, verb: verbs.Known) -> Any:
        """A network that was made a moment ago may not be known there yet."""
        try:
            return channel.call(verb)
        except NotFound:
            channel.call(verbs.PutNetwork(network=described(self._rows.find(network))))
            return channel.call(verb)

    @property
    def _rows(self) -> OverlayNetworks:
        assert self._host is not None, "connect() comes first"
        return self._host

    # -- the thread that follows -----------------------------------------------------------------

    def agree(self, channel: Channel, fresh: bool) -> Problems:
        """Have the process have what the rows have; what is refused is reported, and tried again.

        For `Following.on_sync`.
        """
        if fresh:
            self._claimed.clear()
        elif not self._due and time.monotonic() < self._next:
            return {}
        self._due, self._next = False, time.monotonic() + AT_LEAST
        held = {Holding(*each) for each in channel.call(verbs.Held())}
        self._release(channel, held)
        problems = self._claim(channel, held)
        self._due = self._due or bool(problems)
        return problems

    def _release(self, channel: Channel, held: Iterable[Holding]) -> None:
        lost = set(held) - self._wanted().keys()
        lost = {each for each in lost if _ours(each.ident)}
        if not lost:
            return
        with self._guard:  # from here on no operation of these holders begins
            lost = {each for each in lost if each.ident not in self._busy}
            self._releasing |= {each.ident for each in lost}
        try:
            lost -= self._wanted().keys()  # what was written before that
            for each in sorted(lost):
                channel.call(verbs.Release(ident=each.ident, address=each.address))
            self._claimed -= lost
        finally:
            with self._guard:
                self._releasing.clear()
                self._guard.notify_all()

    def _claim(self, channel: Channel, held: set[Holding]) -> Problems:
        problems: Problems = {}
        for holding, (network, address, who) in sorted(self._wanted().items()):
            if holding in held or holding in self._claimed:
                continue
            try:
                channel.call(verbs.Claim(
                    ident=holding.ident, network=network, address=address, seconds=CLAIMING,
                ))  # fmt: skip
            except NetkitError as error:
                if channel.closed:
                    raise
                problems[f"{who} with {holding.address}"] = str(error)
                if isinstance(error, Busy):
                    break  # others would wait for the same
            else:
                self._claimed.add(holding)
        return problems

    def _wanted(self) -> dict[Holding, tuple[str, str, str]]:
        """Of each row, and of this host's own addresses: (the network's id, the address with its
        length, whose it is for people)."""
        networks = {each.record.id: each for each in self._rows.all()}
        names = {(e.network, e.sandbox): e.owner_name for e in self._rows.endpoints()}
        found = {}
        for row in self._rows.addresses():
            there = networks.get(row.network)
            if there is None or row.kind == "gateway":
                continue  # it was removed in between; it is the host's, or reserved for it
            who = f"container {names.get((row.network, row.holder), row.holder[:SHORT])}"
            subnets = (s.cidr for s in there.config.subnets if row.address in s.cidr)
            length = next((s.prefixlen for s in subnets), row.address.max_prefixlen)
            holding = Holding(ident_of(row.network, row.holder), str(row.address))
            found[holding] = row.network, f"{row.address}/{length}", who
        for id, lane in networks.items():
            for address in lane.ports.host_addresses:
                holding = Holding(ident_of(id, EXPOSED), str(address.ip))
                found[holding] = id, str(address), f"this host on network {lane.record.spec.name}"
        return found


def _ours(ident: str) -> bool:
    """Whether netkitd gave it that name; others may use the process by themselves."""
    holder, colon, network = ident.rpartition(":")
    return bool(colon) and len(network) == SHORT and (len(holder) == 64 or holder == EXPOSED)
