"""Have the resolver and the access rules know containers of other hosts, and added names.

    the process reports a change, or is a new one --> read it all --> rows, names, rules

On a thread of its own: on a large network that takes a while, which the agreement on addresses is
not to wait for.  As long as the process does not answer, what it reported last stays.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any, Protocol

from netkit import threads
from netkit.errors import NetkitError, NotFound
from netkit.network.remote import AddedName, RemoteContainer, RemoteHost, RemoteState
from netkit.overlay import membership
from netkit.overlay.client import Channel, Ended
from netkit.overlay.verbs import Member, Membership

PAUSE = 0.3  # seconds at least from the end of one update to the next
SHARE = 5  # times as long as an update took is the pause at least
AGAIN = 5.0  # seconds until a failed one is tried again
ENDING = 10.0  # seconds that `stop` waits for an update that is under way
LONGEST = 253  # characters of a name
LOCALHOST = "localhost"

# RFC 1123, 2.1; and underscores, which names of containers may have.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_CONTAINER = re.compile(r"[0-9a-f]{12,64}")
_PRINTABLE = re.compile(r"[!-~]{1,253}")

log = logging.getLogger("netkit.weave")


class Members(Protocol):
    """`netkit.network.overlay_members.OverlayMembers`."""

    def update(self, states: dict[str, RemoteState]) -> None: ...


class RemoteMembers:
    """`notify` at any time; nothing happens, and there is no thread, but between `start` and
    `stop`."""

    def __init__(self, members: Members, channel: Callable[[], Channel]) -> None:
        """`channel`: to the process, a new one each time; NotFound where it does not run."""
        self._members, self._channel = members, channel
        self._guard = threading.Condition()
        self._updates = threading.Lock()  # held in an update: of those there is one at a time
        self._thread: threading.Thread | None = None
        self._due = False
        self._ended = True
        self._problem = ""
        self.changed: Callable[[], None] = lambda: None
        """Called when `on_sync` has something else to report than before."""

    # -- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        with self._guard:
            if not self._ended:
                return
            self._ended, self._due = False, True
            self._thread = threads.looping("netkit-members", self._run, over=lambda: self._ended)
            self._thread.start()

    def stop(self) -> None:
        """What is known stays."""
        with self._guard:
            self._ended = True
            self._guard.notify_all()
        if self._thread is not None:
            self._thread.join(ENDING)
            self._thread = None

    def clear(self) -> None:
        """After `stop`: the overlay does not run any more, so there are no containers elsewhere."""
        with self._updates:
            self._members.update({})

    def notify(self) -> None:
        """Something may have changed; neither waits nor raises."""
        with self._guard:
            self._due = True
            self._guard.notify_all()

    def on_event(self, event: dict[str, Any]) -> None:
        """For `Following.on_event`."""
        if event.get("event") == "members":
            self.notify()

    def on_sync(self, channel: Channel, fresh: bool) -> dict[str, str]:
        """For `Following.on_sync`."""
        if fresh:
            self.notify()
        return {"containers of other hosts": self._problem} if self._problem else {}

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            begin = time.monotonic()
            try:
                self._update()
            except NotFound:
                continue  # the next one that runs is noticed by `on_sync`
            except Ended:
                self._retry()  # that it ended is nothing to warn of: it may have been stopped
                continue
            except NetkitError as error:
                self._failed(str(error))
                continue
            self._set_problem("")
            pause = max(PAUSE, SHARE * (time.monotonic() - begin))
            with self._guard:
                self._guard.wait_for(lambda: self._ended, pause)

    def _wait(self) -> bool:
        """Until there is something to do; False: it is over."""
        with self._guard:
            self._guard.wait_for(lambda: self._due or self._ended)
            self._due = False
            return not self._ended

    def _update(self) -> None:
        with self._channel() as channel:
            found = membership.read(channel)
        with self._updates:
            if not self._ended:
                self._members.update(states(found))

    def _set_problem(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self.changed()

    def _failed(self, why: str) -> None:
        if why != self._problem:
            log.warning("weave: containers of other hosts: %s", why)
        self._set_problem(why)
        self._retry()

    def _retry(self) -> None:
        """After a pause: no notification may follow."""
        with self._guard:
            self._guard.wait_for(lambda: self._ended, AGAIN)
            self._due = True


def states(found: Membership) -> dict[str, RemoteState]:
    """By network id.  Texts are other hosts': what cannot be a name, or is not fit to print, is
    left out."""
    hosts = {host.id: host for host in found.hosts}
    members: dict[str, list[Member]] = defaultdict(list)
    names: dict[str, dict[str, dict[str, None]]] = defaultdict(lambda: defaultdict(dict))
    for member in found.members:
        members[member.network].append(member)
    for name in found.names:
        for label in _valid([name.name]):
            names[name.network][label.lower()] |= dict.fromkeys(name.addresses)
    made = {}
    for network in {*members, *names}:
        theirs = {m.host: hosts[m.host] for m in members[network] if m.host in hosts}
        shown = [RemoteHost(id=h.id, name=_name(h.name, h.id), address=_address(h.address))
                 for h in theirs.values()]  # fmt: skip
        made[network] = RemoteState(
            peers=tuple(sorted({h.address for h in shown if h.address})),
            neighbours=tuple(sorted(
                (_container(m, _address(theirs[m.host].address)) for m in members[network]
                 if m.host in theirs),
                key=lambda n: n.id,
            )),
            hosts=tuple(sorted(shown, key=lambda h: (h.name, h.id))),
            names=tuple(
                AddedName(name=label, addresses=_sorted(addresses))
                for label, addresses in sorted(names[network].items())
            ),
        )  # fmt: skip
    return made


def _container(member: Member, host_address: str) -> RemoteContainer:
    """Its id has the peer's in it: no peer can pass one of its containers off as another's."""
    names = tuple(dict.fromkeys(_valid(member.names)))
    # No frame of IPv6 goes over an overlay, and rules are about IPv4.
    addresses = [a for a in member.addresses if ip_address(a).version == 4]
    known = member.container if _CONTAINER.fullmatch(member.container) else ""
    return RemoteContainer(
        id=member.host + member.id,
        network=member.network,
        host=member.host,
        host_address=host_address,
        sandbox=(known or member.id) + member.host,
        owner=names[0] if names else known[:12] or member.host[:12],
        address=addresses[0] if addresses else "",
        more_addresses=tuple(addresses[1:]),
        mac=member.mac,
        names=names,
    )


def _valid(names: Iterable[str]) -> list[str]:
    """Those that a resolver can be asked for; localhost is the container's own (RFC 6761, 6.3)."""
    return [
        name for name in names
        if len(name) <= LONGEST and _NAME.fullmatch(name) and name.lower() != LOCALHOST
    ]  # fmt: skip


def _address(text: str) -> str:
    """Of a host, which may be what it says of itself; "" if it is none."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def _name(text: str, ident: str) -> str:
    return text if _PRINTABLE.fullmatch(text) else ident[:12]


def _sorted(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(addresses, key=lambda a: (ip_address(a).version, int(ip_address(a)))))
