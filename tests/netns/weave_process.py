"""Hosts on one underlay, each with the overlay's process; networks and containers by hand.

As weave_hosts, but the tables are not fed by the test: containers find each other by the overlay.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from netkit.driver import Network
from netkit.errors import NetkitError
from netkit.kernel.netns import open_socket
from netkit.overlay import verbs
from netkit.overlay.core import Settings
from netkit.overlay.folders import Folders
from netkit.overlay.service import Service, new_launch
from netkit.overlay.targets import resolved
from plugins.weave.driver import bridge_name, tap_name, vni_of, vxlan_name
from tests.netns.weave_hosts import CIDR, Town, WeaveHost, town


class Peer:
    """A host of a town, and its process."""

    def __init__(self, host: WeaveHost, folder: Path) -> None:
        self.host = host
        self.service = Service(Folders(folder / "state", folder / "run"), home=host.home)
        self.underlay = str(host.ip)
        self.endpoints: list[verbs.Endpoint] = []

    def launch(self, *peers: Peer, password: str = "", **more: Any) -> None:
        found = tuple(each for peer in peers for each in resolved(str(peer.underlay)))
        self.service.launch(Settings(
            launch=new_launch(), nickname=self.host.peer, password=password, peers=found,
            founder=not peers, **more,
        ))  # fmt: skip

    def call(self, verb: verbs.Known) -> Any:
        return self.service.call(verb)

    def join(self, name: str, **options: str) -> None:
        self.call(verbs.PutNetwork(network=described(self.host.join(name, **options))))

    @property
    def networks(self) -> list[verbs.Network]:
        return [described(net) for net in self.host.networks.values()]

    def run(self, network: str, container: str, address: str = "", **more: str) -> str:
        """The container's address: one that the overlay gave, or claimed if it is given."""
        ident = f"{self.host.peer}-{container}"
        if address:
            self.call(verbs.Claim(ident=ident, address=f"{address}/16"))
        else:
            given = self.call(verbs.Allocate(ident=ident, subnet=str(CIDR)))
            address = given.partition("/")[0]
        member = self.host.run(network, container, address, **more)
        found = str(member.addresses[0])
        endpoint = verbs.Endpoint(
            id=f"{self.host.peer}-{container}-{network}", network=self.host.networks[network].id,
            mac=member.mac, addresses=(found,), names=(container,), container=container,
        )  # fmt: skip
        self.call(verbs.PutEndpoint(endpoint=endpoint))
        self.endpoints.append(endpoint)
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.call(verbs.Status())
        return found

    def ways(self) -> dict[str, str]:
        """By name of the peer."""
        found = self.status()["overlay"]["connections"]
        return {c["name"]: c["way"] for c in found if c["state"] == "established"}

    def log(self) -> str:
        folders = self.service.folders
        words = [f.read_text() for f in (folders.log, folders.errors) if f.exists()]
        return f"-- {self.host.peer}\n" + "\n".join(words)

    def kill(self) -> None:
        """At once, as if it had crashed."""
        with self.service.channel() as channel:
            pid = channel.pid
        os.kill(pid, signal.SIGKILL)
        popen = self.service._popen
        assert popen is not None
        popen.wait(10)

    def end(self) -> None:
        with suppress(NetkitError):
            self.service.stop()


def described(net: Network) -> verbs.Network:
    return verbs.Network(
        id=net.id, name=net.name, vni=vni_of(net), bridge=bridge_name(net), tap=tap_name(net),
        vxlan=vxlan_name(net), subnets=tuple(str(s.cidr) for s in net.subnets),
    )  # fmt: skip


class Peers(list[Peer]):
    town: Town


@contextmanager
def peers(count: int, folder: Path) -> Iterator[Peers]:
    """Hosts whose processes are not launched yet; what they logged is printed at the end."""
    with ExitStack() as stack:
        made = stack.enter_context(town(count))
        found = Peers(Peer(h, folder / f"{h.peer}-{secrets.token_hex(2)}") for h in made.hosts)
        found.town = made
        for peer in found:
            stack.callback(peer.end)
        stack.callback(lambda: print(*(peer.log() for peer in found), sep="\n"))
        yield found


@dataclass
class Stream:
    """Datagrams, a hundred a second, from one container to another; `lost` once it is over."""

    sent: int = 0
    lost: int = 0


@contextmanager
def stream(
    sender: Peer, source: str, receiver: Peer, target: str, address: str
) -> Iterator[Stream]:
    made = Stream()
    stop = Event()
    with (
        open_socket(receiver.host.ns(target), socket.AF_INET, socket.SOCK_DGRAM) as sink,
        open_socket(sender.host.ns(source), socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        sink.bind((address, 7000))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sink.settimeout(1)

        def run() -> None:
            while not stop.wait(0.01):
                out.sendto(made.sent.to_bytes(4, "big"), (address, 7000))
                made.sent += 1

        thread = Thread(target=run)
        thread.start()
        try:
            yield made
        finally:
            stop.set()
            thread.join()
            got = set()
            with suppress(TimeoutError):
                while len(got) < made.sent:
                    got.add(sink.recv(100))
            made.lost = made.sent - len(got)
