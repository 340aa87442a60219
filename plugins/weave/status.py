"""What `weave status` and `weave report` show; values for others to print."""

from __future__ import annotations

from dataclasses import dataclass

from plugins.weave.space_status import SpaceStatus


def ipam_state(ipam: SpaceStatus) -> str:
    """In a word or a few, as weave's `status` has it."""
    if ipam.range is None:
        return ipam.without or ("waiting for a peer" if ipam.waiting else "idle")
    if ipam.fenced is not None:
        return f"stopped: {ipam.fenced}"
    if not ipam.waiting:
        return "ready"
    if ipam.unreachable:
        return f"waiting for IP(s): {ipam.unreachable:.1%} are owned by unreachable peers"
    return "waiting for IP(s) to become available"


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """Of any peer that is known, this one too (`status peers`)."""

    id: str
    """The whole id, in hexadecimal."""
    name: str
    state: str
    """alive, suspect, dead."""
    software: str
    addresses: tuple[str, ...]
    """HOST:PORT, where it says it can be reached."""
    links: tuple[tuple[str, str], ...]
    """(id, name) of those it has sessions with."""
    faulty: str
    """What it did that no honest peer does; "": nothing."""


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """Of a session, or of one that is tried for (`status connections`)."""

    direction: str
    """"->": this host opened it, "<-": the other one."""
    address: str
    """HOST:PORT; "relay by NAME"; of an attempt the one that is tried."""
    state: str
    """established, connecting, retrying, failed."""
    encrypted: bool
    """Of data; what peers send each other always is."""
    way: str
    """fastdp, sleeve, relay, none."""
    reason: str
    peer: str
    """Id, in hexadecimal; "": not known."""
    name: str
    size: int
    """Bytes of UDP's payload that the path is known to carry; 0: none."""
    mtu: int
    """Bytes of a packet that fits one datagram; 0: none."""

    def line(self) -> str:
        """As weave has it: `-> 192.0.2.7:6783 established encrypted sleeve 0a1b(h2) mtu=1412`."""
        arrow = f"{self.direction} {self.address:<21} {self.state:<11}"
        if self.state != "established":
            return f"{arrow} {self.reason}".rstrip()
        sealed = "encrypted" if self.encrypted else "unencrypted"
        who = f"{self.peer[:12]}({self.name})"
        reason = self.reason.removeprefix(f"{self.way}: ")
        return f"{arrow} {sealed} {self.way} {who} mtu={self.mtu} {reason}"


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """Of a target (`status targets`)."""

    address: str
    name: str
    """As the user wrote it."""
    peer: str
    """Id of who was found there; "": none yet."""


@dataclass(frozen=True, slots=True)
class NameStatus:
    """One name and address (`status dns`)."""

    name: str
    """In full, without a dot at the end."""
    address: str
    container: str
    origin: str
    """Id of the peer that says so."""


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    name: str
    vni: int
    encrypted: bool
    here: int
    """Endpoints of this host."""
    elsewhere: int
    peers: tuple[str, ...]
    """Ids of those with endpoints."""
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    id: str
    name: str
    software: str
    protocol: str
    encryption: bool
    discovery: bool
    trusted_subnets: tuple[str, ...]
    no_fastdp: str
    """Why the kernel carries nothing; "": it may."""
    targets: tuple[TargetStatus, ...]
    connections: tuple[ConnectionStatus, ...]
    peers: tuple[PeerStatus, ...]
    names: tuple[NameStatus, ...]
    networks: tuple[NetworkStatus, ...]
    ipam: SpaceStatus
    dropped: dict[str, int]
    """Datagrams that led to nothing, by reason."""
    warnings: tuple[str, ...]
    """What the user has to see to."""
