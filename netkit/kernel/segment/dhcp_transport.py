"""Send and receive containers' DHCP messages on one of the host's links."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import closing

from netkit.errors import KernelError
from netkit.ipam.dhcp.client import Client, Stage
from netkit.ipam.dhcp.message import Datagram, frame, parse
from netkit.kernel import netns
from netkit.model import HOST

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 1, 1
MEMBERSHIP = struct.Struct("=iHH8s")  # interface, kind, length of an address, address


class HostDhcp:
    """A netkit.ipam.dhcp_leases.DhcpTransport for namespace `home`.  `now`: see dhcp.client."""

    def __init__(self, now: Callable[[], float], home: str = HOST) -> None:
        self._now = now
        self._home = home

    def exchange(self, link: str, client: Client, seconds: float) -> None:
        """Exchange messages until the client is bound, has lost its lease, or the time is over."""
        end = self._now() + seconds
        started = client.stage, client.lease
        with closing(self._open(link)) as s:
            while (now := self._now()) < end:
                for d in client.to_wire(now):
                    _send(s, d, link)
                if client.stage in {Stage.BOUND, Stage.LOST} and started != (
                    client.stage,
                    client.lease,
                ):
                    return
                due = client.deadline()
                s.settimeout(max(min(end, due if due is not None else end) - now, 0.001))
                try:
                    message = parse(s.recv(1 << 16))
                except TimeoutError:
                    continue
                except OSError as e:
                    raise KernelError(f"DHCP on {link}: {e.strerror}", errno=e.errno) from e
                if message is not None:
                    client.from_wire(message, self._now())

    def send(self, link: str, d: Datagram) -> None:
        with closing(self._open(link)) as s:
            _send(s, d, link)

    def _open(self, link: str) -> socket.socket:
        """A raw socket, which also gets frames for containers: the bridge is promiscuous."""
        s = netns.open_socket(self._home, socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            s.bind((link, ETH_P_IP))
            with netns.inside(self._home):
                index = socket.if_nametoindex(link)
            request = MEMBERSHIP.pack(index, PACKET_MR_PROMISC, 0, bytes(8))
            s.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        except OSError as e:
            s.close()
            raise KernelError(f"no DHCP on {link}: {e.strerror}", errno=e.errno) from e
        return s


def _send(s: socket.socket, d: Datagram, link: str) -> None:
    try:
        s.send(frame(d))
    except OSError as e:
        raise KernelError(f"DHCP on {link}: {e.strerror}", errno=e.errno) from e
