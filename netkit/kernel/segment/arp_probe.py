"""Probe addresses on a link's segment by ARP (RFC 826, RFC 5227).

    ethernet | to 6 | from 6 | 0x0806 |
    arp      | 1 2 | 0x0800 2 | 6 1 | 4 1 | operation 2 | sender mac 6, ip 4 | target mac 6, ip 4 |

Times are shorter than RFC 5227's, whose seven seconds a container would wait for: the number of
probes is its own, the time between them and after them is an argument.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from netkit.errors import KernelError
from netkit.kernel import netns

ETH_P_ARP = 0x0806
BROADCAST = "ff:ff:ff:ff:ff:ff"
ETHERNET = struct.Struct("!6s6sH")
ARP = struct.Struct("!HHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
UNKNOWN = IPv4Address(0)
PROBES = 3  # RFC 5227, PROBE_NUM


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp:
    """One message."""

    operation: int
    mac: str  # of the sender
    address: IPv4Address  # of the sender; 0.0.0.0 in a probe
    target: IPv4Address


def frame(a: Arp, to: str = BROADCAST) -> bytes:
    ether = ETHERNET.pack(_raw(to), _raw(a.mac), ETH_P_ARP)
    target_mac = bytes(6) if a.operation == REQUEST else _raw(to)
    return ether + ARP.pack(
        1, 0x0800, 6, 4, a.operation,
        _raw(a.mac), a.address.packed, target_mac, a.target.packed,
    )  # fmt: skip


def parse(data: bytes) -> Arp | None:
    """A frame with an ARP message about IPv4 on Ethernet; None for anything else."""
    if len(data) < ETHERNET.size + ARP.size:
        return None
    kind, proto, hlen, plen, operation, mac, address, _, target = ARP.unpack_from(
        data, ETHERNET.size
    )
    if (kind, proto, hlen, plen) != (1, 0x0800, 6, 4):
        return None
    return Arp(
        operation=operation,
        mac=mac.hex(":"),
        address=IPv4Address(address),
        target=IPv4Address(target),
    )


def claims(a: Arp, wanted: Collection[IPv4Address], own: str) -> IPv4Address | None:
    """The one of `wanted` that this packet shows in use, or probed for, by another MAC address."""
    if a.mac == own:
        return None
    if a.address in wanted:
        return a.address
    if a.operation == REQUEST and a.address == UNKNOWN and a.target in wanted:
        return a.target
    return None


def occupants(
    home: str, link: str, wanted: Sequence[IPv4Address], seconds: float
) -> dict[IPv4Address, str]:
    """Find which of these addresses are in use on the segment of `link`, and by which MAC.

    Probes (from 0.0.0.0, so that no cache changes) for `seconds`, less if all are known earlier.
    """
    return _ask(home, link, wanted, UNKNOWN, seconds)


def answers(
    home: str, link: str, wanted: Sequence[IPv4Address], sender: IPv4Address, seconds: float
) -> set[IPv4Address]:
    """Which of these neighbours answer a request from `sender`."""
    return set(_ask(home, link, wanted, sender, seconds))


def announce(home: str, link: str, address: IPv4Address) -> None:
    """Broadcast an ARP announcement of `address` (RFC 5227, 2.3), which corrects stale caches."""
    with _open(home, link) as s:
        own = s.getsockname()[4].hex(":")
        try:
            s.send(frame(Arp(operation=REQUEST, mac=own, address=address, target=address)))
        except OSError as e:
            raise KernelError(f"cannot send ARP on {link}: {e.strerror}", errno=e.errno) from e


def _ask(
    home: str, link: str, wanted: Sequence[IPv4Address], sender: IPv4Address, seconds: float
) -> dict[IPv4Address, str]:
    found: dict[IPv4Address, str] = {}
    if not wanted:
        return found
    with _open(home, link) as s:
        own = s.getsockname()[4].hex(":")
        end = time.monotonic() + seconds
        for turn in range(PROBES):
            for target in wanted:
                if target not in found:
                    ask = Arp(operation=REQUEST, mac=own, address=sender, target=target)
                    s.send(frame(ask))
            until = end - (PROBES - 1 - turn) * seconds / PROBES
            for message in _heard(s, until):
                who = claims(message, wanted, own)
                if who is not None:
                    found.setdefault(who, message.mac)
                if len(found) == len(set(wanted)):
                    return found
    return found


def _open(home: str, link: str) -> socket.socket:
    try:
        s = netns.open_socket(home, socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.bind((link, ETH_P_ARP))
    except OSError as e:
        raise KernelError(f"cannot send ARP on {link}: {e.strerror}", errno=e.errno) from e
    return s


def _heard(s: socket.socket, until: float) -> Iterator[Arp]:
    while (left := until - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            message = parse(s.recv(1 << 16))
        except TimeoutError:
            return
        except OSError as e:
            raise KernelError(f"cannot receive ARP: {e.strerror}", errno=e.errno) from e
        if message is not None:
            yield message


def _raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
