"""Send the sleeve's workers what the core has: only what differs."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address

from netkit.overlay.core import Reach, Receiving, Remote
from netkit.overlay.loop import Loop
from netkit.overlay.sleeve import tap
from netkit.overlay.sleeve.framing import LARGEST, SMALLEST
from netkit.overlay.sleeve.plane import Lost, Plane
from netkit.overlay.sleeve.sockets import Pair
from netkit.overlay.sleeve.tables import Counts, PutPeer, PutSession, Received
from netkit.overlay.verbs import Network

TURN = 64  # relayed datagrams that are read before others have their turn
DATAGRAM = 1 << 16
Host = tuple[int, tuple[str, ...]]  # the peer's number, and addresses

log = logging.getLogger("netkit.overlay")


class UserPlane:
    """`relay` is called with datagrams of data for a peer that others have to pass on; `observed`
    with an index, host and port: sealed data comes from there now."""

    def __init__(
        self, loop: Loop, pair: Pair, relay: Callable[[int, bytes], None],
        observed: Callable[[int, str, int], None],
    ) -> None:  # fmt: skip
        self._loop, self._pair, self._relay, self._observed = loop, pair, relay, observed
        self._plane = Plane(pair)
        self._v6 = pair.data.family == socket.AF_INET6
        self._peers: dict[int, PutPeer] = {}
        self._sessions: dict[int, PutSession] = {}
        self._taps: dict[int, tuple[str, int]] = {}  # by network's number: name and index
        self._hosts: dict[int, dict[str, Host]] = {}
        self._members: dict[int, tuple[int, ...]] = {}
        self._shims: dict[int, socket.socket] = {}
        self._files: tuple[int, ...] = ()
        self.problems: dict[int, str] = {}  # by network's number

    # -- workers ---------------------------------------------------------------------------------

    def watch(self, died: Callable[[], None]) -> None:
        """Have `died` called when a worker has ended."""
        for fd in self._files:
            self._loop.forget(fd)
        self._files = *self._plane.files, self._plane.news
        for fd in self._plane.files:
            self._loop.read(fd, died)
        self._loop.read(self._plane.news, self._moved)

    def unwatch(self) -> None:
        for fd in self._files:
            self._loop.forget(fd)
        self._files = ()

    def revive(self) -> Lost:
        """Start what has ended.  OSError."""
        lost = self._plane.revive()
        for number in lost.peers:
            self._peers.pop(number, None)
        return lost

    @property
    def pids(self) -> dict[str, int]:
        return self._plane.pids

    def counts(self) -> tuple[Counts, Counts]:
        return self._plane.counts()

    def received(self) -> dict[int, Received]:
        """By number of the peer, where something came since this was asked for last."""
        return self._plane.received() if self._sessions else {}

    def _moved(self) -> None:
        for source in self._plane.sources():
            address = ip_address(source.address)
            mapped = getattr(address, "ipv4_mapped", None)
            by_others = address.is_loopback and source.port == self._pair.port
            if not by_others and not address.is_link_local:  # the zone of which is not known
                self._observed(source.index, str(mapped or address), source.port)

    def close(self) -> None:
        self.unwatch()
        for number in list(self._shims):
            self._unshim(number)
        self._plane.close()

    # -- what workers are sent ---------------------------------------------------------------------

    def sessions(self, wanted: Mapping[int, Receiving]) -> None:
        for index in self._sessions.keys() - wanted.keys():
            self._plane.drop_session(index)
            del self._sessions[index]
        for index, each in wanted.items():
            address = self._pair.written(each.address) if each.address else ""
            put = PutSession(index=index, peer=each.number, key=each.key, address=address)
            if self._sessions.get(index) != put and (put.key or put.address):
                self._sessions[index] = put
                with suppress(ValueError):  # a key that a worker lost: new ones are on their way
                    self._plane.put_session(put)

    def peers(self, wanted: Mapping[bytes, Reach]) -> None:
        numbers = {reach.number: reach for reach in wanted.values() if reach.where}
        numbers |= {reach.number: reach for reach in wanted.values() if reach.path == "relay"}
        for number in self._peers.keys() - numbers.keys():
            self._plane.drop_peer(number)
            del self._peers[number]
        for number in self._shims.keys() - {n for n, r in numbers.items() if r.path == "relay"}:
            self._unshim(number)
        for number, reach in numbers.items():
            put = self._put(reach)
            if put is not None and self._peers.get(number) != put:
                self._peers[number] = put
                with suppress(ValueError):
                    self._plane.put_peer(put)

    def _put(self, reach: Reach) -> PutPeer | None:
        host, port = reach.where or ("", 0)
        if reach.path == "relay":
            if not reach.key:
                return None  # nothing goes in clear by way of others
            host, port = self._shim(reach.number)
        return PutPeer(
            peer=reach.number, address=self._pair.written(host), port=port, index=reach.index,
            key=reach.key, size=min(max(reach.size, SMALLEST), LARGEST), whole=reach.whole,
        )  # fmt: skip

    def network(
        self, network: Network, remotes: Sequence[Remote], members: Sequence[int],
        numbers: Mapping[bytes, int],
    ) -> None:  # fmt: skip
        """`members`: who gets broadcasts by user space; `numbers`: of peers that are reached."""
        if not self._attached(network):
            return
        vni = network.vni
        hosts: dict[str, Host] = {
            r.mac: (numbers[r.peer], r.addresses) for r in remotes if r.peer in numbers
        }
        sent = self._hosts[vni]
        for mac in sent.keys() - hosts.keys():
            self._plane.drop_host(vni, _mac(mac))
            del sent[mac]
        for mac, (number, addresses) in hosts.items():
            if sent.get(mac) != (number, addresses):
                sent[mac] = number, addresses
                self._plane.put_host(vni, _mac(mac), number, [ip_address(a) for a in addresses])
        if self._members.get(vni) != tuple(members):
            self._members[vni] = tuple(members)
            self._plane.members(vni, members)

    def only(self, vnis: set[int]) -> None:
        """There are no other networks."""
        for vni in self._taps.keys() - vnis:
            self._drop(vni)
        for vni in self.problems.keys() - vnis:
            del self.problems[vni]

    def _attached(self, network: Network) -> bool:
        """Have the network's device, the present one: it may have been made anew."""
        vni, name = network.vni, network.tap
        try:
            index = socket.if_nametoindex(name)
            if self._taps.get(vni) == (name, index):
                return True
            self._drop(vni)
            self._plane.put_network(vni, tap.attach(name))
        except (OSError, ValueError) as e:
            taken = isinstance(e, OSError) and e.errno == errno.EBUSY
            self._drop(vni)
            self.problems[vni] = f"{name}: {'another process has it' if taken else e}"
            return False
        self._taps[vni] = name, index
        self._hosts[vni] = {}
        self.problems.pop(vni, None)
        return True

    def _drop(self, vni: int) -> None:
        if self._taps.pop(vni, None) is not None:
            self._plane.drop_network(vni)
        self._hosts.pop(vni, None)
        self._members.pop(vni, None)

    # -- by way of others ------------------------------------------------------------------------

    def inject(self, datagram: bytes) -> None:
        """Have a datagram that came by way of others received as if it had come directly."""
        with suppress(OSError):
            self._pair.control.sendto(datagram, (self._loopback, self._pair.port))

    @property
    def _loopback(self) -> str:
        return "::1" if self._v6 else "127.0.0.1"

    def _shim(self, number: int) -> tuple[str, int]:
        """Where the worker sends what others have to pass on to that peer: to us."""
        if number not in self._shims:
            family = socket.AF_INET6 if self._v6 else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.bind((self._loopback, 0))
            made.setblocking(False)
            self._shims[number] = made
            self._loop.read(made.fileno(), lambda: self._shimmed(number, made))
        host, port = self._shims[number].getsockname()[:2]
        return host, port

    def _shimmed(self, number: int, shim: socket.socket) -> None:
        for _ in range(TURN):
            try:
                datagram, (_, port, *_) = shim.recvfrom(DATAGRAM)
            except OSError:
                return
            if port == self._pair.port:  # of our own worker
                self._relay(number, datagram)

    def _unshim(self, number: int) -> None:
        shim = self._shims.pop(number)
        self._loop.forget(shim.fileno())
        shim.close()


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
