"""The client's side of a lease, without I/O: messages and the time in, messages out.

    SELECTING --offer--> REQUESTING --ack--> BOUND --T1--> RENEWING --T2--> REBINDING --> LOST
                             | nak                            | ack: BOUND       nak, end: LOST
                             v
                          SELECTING

It acts for a container: answers are asked for as broadcasts, for the container must not need to
receive them.  `now` is in seconds of a clock that runs on while netkit does not.  RFC 2131, 4.4.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface

import msgspec

from netkit.ipam.dhcp.message import (
    ACK,
    ADDRESS,
    ANSWER,
    ASK,
    BROADCAST,
    CLIENT_ID,
    DECLINE,
    DISCOVER,
    EVERYBODY,
    EVERYWHERE,
    HOSTNAME,
    KIND,
    MASK,
    NAK,
    NOWHERE,
    OFFER,
    PARAMETERS,
    RELEASE,
    REQUEST,
    ROUTER,
    SECONDS,
    SERVER_ID,
    T1,
    T2,
    Datagram,
    Message,
)

FIRST_WAIT, LONGEST_WAIT = 1.0, 8.0  # seconds; RFC 2131 begins at 4, a container would wait for it
TRIES = 4  # of a request, until the offer is given up
LEAST_WAIT = 60.0  # seconds between requests for more time
WANTED = bytes((MASK, ROUTER, SECONDS, T1, T2))
FOREVER = 0xFFFFFFFF


class Stage(Enum):
    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    LOST = "lost"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """`until`, `renew` and `rebind` are moments; all 0 for a lease that does not end."""

    address: str  # 10.211.55.77/24
    router: str  # "" where the server names none
    server: str
    server_mac: str
    until: float = 0.0
    renew: float = 0.0
    rebind: float = 0.0


class Client:
    """One lease of one container.  `random` gives n random bits."""

    def __init__(
        self,
        mac: str,
        *,
        hostname: str,
        now: float,
        random: Callable[[int], int],
        requested: str = "",
        lease: Lease | None = None,
    ) -> None:
        self.mac = mac
        self.lease = lease
        self.stage = Stage.BOUND if lease else Stage.SELECTING
        self._hostname = hostname
        self._requested = requested
        self._random = random
        self._offer: Datagram | None = None
        self._due: float | None = now
        self._begin(now)
        if lease is not None:
            self._due = lease.renew if lease.until else None

    def deadline(self) -> float | None:
        """When `to_wire` has a message next, if nothing arrives."""
        return self._due

    def to_wire(self, now: float) -> list[Datagram]:
        """Return the messages that are due."""
        if self._due is None or now < self._due:
            return []
        match self.stage:
            case Stage.SELECTING:
                self._wait(now)
                return [self._discover(now)]
            case Stage.REQUESTING:
                return self._request(now)
            case Stage.LOST:
                return []
        return self._extend(now)

    def from_wire(self, d: Datagram, now: float) -> None:
        """Handle a received message; one that is not an answer to us changes nothing."""
        m = d.message
        if (m.op, m.xid, m.mac) != (ANSWER, self._xid, self.mac):
            return
        if self.stage is Stage.SELECTING and m.kind == OFFER and m.address(SERVER_ID):
            self._offer, self.stage = d, Stage.REQUESTING
            self._tries, self._due = 0, now
        elif m.kind == ACK and self.stage not in {Stage.SELECTING, Stage.BOUND, Stage.LOST}:
            self._bind(d)
        elif m.kind == NAK and self._is_ours(m):
            self._refused(now)

    def release(self) -> Datagram | None:
        """Return a DHCPRELEASE; there is no answer."""
        return self._farewell(RELEASE)

    def decline(self) -> Datagram | None:
        """Return a DHCPDECLINE: another host has the address."""
        return self._farewell(DECLINE)

    # -- stages ----------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._xid = self._random(32)
        self._since = now
        self._interval = FIRST_WAIT
        self._tries = 0
        self._due = now

    def _wait(self, now: float) -> None:
        """Return the next wait: twice the last, a quarter more or less."""
        share = 0.75 + self._random(16) / 65536 / 2
        self._due = now + self._interval * share
        self._interval = min(2 * self._interval, LONGEST_WAIT)

    def _request(self, now: float) -> list[Datagram]:
        assert self._offer is not None
        if self._tries == TRIES:
            self.stage = Stage.SELECTING
            self._begin(now)
            return self.to_wire(now)
        self._interval = FIRST_WAIT if not self._tries else self._interval
        self._tries += 1
        self._wait(now)
        offer = self._offer.message
        options = {
            ADDRESS: offer.yiaddr.packed,
            SERVER_ID: offer.options[SERVER_ID],
        }
        return [self._broadcast(self._message(REQUEST, now, options))]

    def _discover(self, now: float) -> Datagram:
        requested = {ADDRESS: IPv4Address(self._requested).packed} if self._requested else {}
        return self._broadcast(self._message(DISCOVER, now, requested))

    def _extend(self, now: float) -> list[Datagram]:
        lease = self.lease
        assert lease is not None
        if now >= lease.until:
            self.stage, self._due = Stage.LOST, None
            return []
        if self.stage is Stage.BOUND:
            self._begin(now)
        self.stage = Stage.RENEWING if now < lease.rebind else Stage.REBINDING
        end = lease.rebind if self.stage is Stage.RENEWING else lease.until
        # Half the time that is left; short leases could not be asked about twice in a minute.
        least = min(LEAST_WAIT, max((end - now) / 4, 0.5))
        self._due = min(now + max((end - now) / 2, least), end)
        ours = IPv4Interface(lease.address).ip
        message = self._message(REQUEST, now, {}, ciaddr=ours)
        direct = self.stage is Stage.RENEWING
        return [
            Datagram(
                message=message,
                source=self.mac,
                source_ip=ours,
                to=lease.server_mac if direct else EVERYBODY,
                to_ip=IPv4Address(lease.server) if direct else EVERYWHERE,
            )
        ]

    def _bind(self, d: Datagram) -> None:
        m, seconds = d.message, d.message.number(SECONDS)
        mask, server = m.address(MASK), m.address(SERVER_ID) or d.source_ip
        if self.lease is not None and m.yiaddr != IPv4Interface(self.lease.address).ip:
            return  # an answer to a request for more time is about the address we have
        if not int(m.yiaddr) or seconds is None:
            return
        router = m.address(ROUTER)
        self.stage = Stage.BOUND
        lease = Lease(
            address=f"{m.yiaddr}/{IPv4Interface((0, str(mask))).network.prefixlen if mask else 32}",
            router=str(router or ""),
            server=str(server),
            server_mac=d.source,
        )
        if seconds != FOREVER:
            # Counted from the request, as the server's clock may: RFC 2131, 4.4.5.
            t1, t2 = m.number(T1) or seconds * 0.5, m.number(T2) or seconds * 0.875
            start = self._since
            if not 0 < t1 < t2 < seconds:
                t1, t2 = seconds * 0.5, seconds * 0.875
            lease = msgspec.structs.replace(
                lease, until=start + seconds, renew=start + t1, rebind=start + t2
            )
        self.lease = lease
        self._due = lease.renew if lease.until else None

    def _is_ours(self, m: Message) -> bool:
        """A server that knows nothing of our lease may not end it before all servers are asked."""
        if self.stage is Stage.REQUESTING and self._offer is not None:
            return m.options.get(SERVER_ID) == self._offer.message.options[SERVER_ID]
        if self.stage is Stage.RENEWING and self.lease is not None:
            return str(m.address(SERVER_ID)) == self.lease.server
        return self.stage is Stage.REBINDING

    def _refused(self, now: float) -> None:
        if self.lease is None:
            self.stage = Stage.SELECTING
            self._begin(now)
            self._due = now + FIRST_WAIT
        else:
            self.stage, self._due = Stage.LOST, None

    # -- messages ----------------------------------------------------------------

    def _message(
        self, kind: int, now: float, options: dict[int, bytes], ciaddr: IPv4Address = NOWHERE
    ) -> Message:
        common = {
            KIND: bytes((kind,)),
            CLIENT_ID: b"\x01" + bytes.fromhex(self.mac.replace(":", "")),
        }
        asks = {PARAMETERS: WANTED} if kind in {DISCOVER, REQUEST} else {}
        if asks and self._hostname:
            asks[HOSTNAME] = self._hostname.encode()[:63]
        return Message(
            op=ASK,
            xid=self._xid,
            mac=self.mac,
            secs=min(int(now - self._since), 0xFFFF),
            flags=BROADCAST if kind in {DISCOVER, REQUEST} and not int(ciaddr) else 0,
            ciaddr=ciaddr,
            options={**common, **options, **asks},
        )

    def _broadcast(self, message: Message) -> Datagram:
        return Datagram(message=message, source=self.mac)

    def _farewell(self, kind: int) -> Datagram | None:
        if self.lease is None:
            return None
        ours, server = IPv4Interface(self.lease.address).ip, IPv4Address(self.lease.server)
        self._xid = self._random(32)
        options = {SERVER_ID: server.packed}
        if kind == DECLINE:  # a client that declines has no address
            message = self._message(kind, self._since, {**options, ADDRESS: ours.packed})
            return self._broadcast(message)
        message = self._message(kind, self._since, options, ciaddr=ours)
        return Datagram(
            message=message,
            source=self.mac,
            source_ip=ours,
            to=self.lease.server_mac,
            to_ip=server,
        )
