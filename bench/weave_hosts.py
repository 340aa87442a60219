"""Two hosts with the weave driver and the overlay's process, as netkitd has them, and VXLAN by hand
with the same bridges: a container on each.

The processes are real ones: frames take the way that they decide on, and a path that loses
datagrams is noticed by them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, Literal

from bench.overlays import DEVICE, HERE, OUTER, THERE, UP, Kind, Underlay, Way
from netkit.driver import Endpoint, Network, Subnet
from netkit.errors import NetkitError
from netkit.kernel import netns
from netkit.kernel.host import Host
from netkit.model import Netns, Resource, state
from netkit.overlay import verbs
from netkit.overlay.core import Settings
from netkit.overlay.folders import Folders
from netkit.overlay.service import Service, new_launch
from netkit.overlay.targets import resolved
from netkit.reconcile.converge import Change, converge, ownership
from plugins.weave.driver import Weave, bridge_name, tap_name, vni_of, vxlan_name

CIDR = ip_network("10.98.0.0/24")
SMALLER = {"fastdp": 50, "sleeve": 100}  # bytes that the containers' MTU is below the underlay's
DRIVER = Weave()


class _End:
    """One host: the network, a container and the process."""

    def __init__(self, at: Underlay, end: int, mtu: int, stack: ExitStack) -> None:
        self.at, self.end, self.inner = at, end, (HERE, THERE)[end]
        self._namespaces = f"/run/{at.names[end]}"
        self.container = f"{self._namespaces}/c"
        kernel = Host(at.file(end), namespaces=self._namespaces)
        stack.callback(kernel.close)
        self.net = Network(
            id=secrets.token_hex(32), name="lane", driver="weave", subnets=(Subnet(cidr=CIDR),),
            options=DRIVER.parse({"mtu": str(mtu)}),
        )  # fmt: skip
        self._endpoint = Endpoint(
            id=secrets.token_hex(32), network=self.net.id,
            addresses=(ip_interface(f"{self.inner}/24"),), mac=f"02:42:0a:62:00:0{end + 1}",
            ns=self.container, ifname=DEVICE,
        )  # fmt: skip
        space = Netns(path=self.container, owner=self._endpoint.owner(self.net))
        made: list[Resource] = [*DRIVER.network(self.net), space]
        made += DRIVER.endpoint(self.net, self._endpoint)
        stack.callback(self._gone)
        converge(Change.of(state(made)), kernel, ownership(self.net.engine, self._namespaces))
        folder = at.folder / f"weave{secrets.token_hex(2)}"
        self._service = Service(Folders(folder / "state", folder / "run"), home=at.file(end))

    def _gone(self) -> None:
        with suppress(NetkitError):
            self._service.stop()
        netns.remove(self.container)
        Path(self._namespaces).rmdir()
        for name in filter(None, (bridge_name(self.net), tap_name(self.net), vxlan_name(self.net))):
            self.at.run(self.end, "ip", "link", "del", "dev", name)
        for table in self.at.run(self.end, "nft", "list", "tables").splitlines():
            self.at.run(self.end, "nft", "delete", *table.split())

    def launch(self, *, password: str, fastdp: bool) -> None:
        peers = resolved(OUTER[0]) if self.end else ()
        self._service.launch(Settings(
            launch=new_launch(), nickname=f"h{self.end}", password=password, peers=peers,
            founder=not self.end, fastdp=fastdp,
        ))  # fmt: skip
        net, ep = self.net, self._endpoint
        self._service.call(verbs.PutNetwork(network=verbs.Network(
            id=net.id, name=net.name, vni=vni_of(net), bridge=bridge_name(net), tap=tap_name(net),
            vxlan=vxlan_name(net), subnets=(str(CIDR),),
        )))  # fmt: skip
        self._service.call(verbs.Claim(ident="c", address=f"{self.inner}/24"))
        self._service.call(verbs.PutEndpoint(endpoint=verbs.Endpoint(
            id="c", network=net.id, mac=str(ep.mac), addresses=(self.inner,), names=("c",),
            container="c",
        )))  # fmt: skip

    @property
    def pids(self) -> list[int]:
        with self._service.channel() as channel:
            return [channel.pid, *self._status()["process"]["workers"].values()]

    def is_reached(self, way: str, size: int) -> bool:
        """Whether the other host is, by that way and in datagrams of that size."""
        found = self._status()["overlay"]["connections"]
        return any((each["way"], each["size"]) == (way, size) for each in found)

    def _status(self) -> dict[str, Any]:
        found: dict[str, Any] = self._service.call(verbs.Status())
        return found


def weave(way: Literal["fastdp", "sleeve"], *, password: str = "") -> Way:
    @contextmanager
    def path(at: Underlay) -> Iterator[None]:
        with ExitStack() as stack:
            ends = [_End(at, end, at.mtu - SMALLER[way], stack) for end in (0, 1)]
            for each in ends:
                each.launch(password=password, fastdp=way == "fastdp")
            for each in ends:
                _until(lambda each=each: each.is_reached(way, at.mtu - 28))  # type: ignore[misc]
                at.pids.extend(each.pids)
            at.inside = ends[0].container, ends[1].container
            yield
        at.inside = ("", "")

    return path


@contextmanager
def bridged(at: Underlay) -> Iterator[None]:
    """VXLAN by hand with a bridge and a container at each end, as fastdp has them."""
    with ExitStack() as stack:
        places = []
        for end in (0, 1):
            mtu, outer = str(at.mtu - 50), f"nk-{secrets.token_hex(3)}"
            places.append(f"/run/netns/{outer}")
            netns.create(places[end])
            stack.callback(netns.remove, places[end])
            at.run(end, "ip", "link", "add", "name", "br", "mtu", mtu, "type", "bridge")
            stack.callback(at.run, end, "ip", "link", "del", "dev", "br")
            at.run(end, "ip", "link", "add", "vx", "mtu", mtu, "type", "vxlan", "id", "42",
                   "local", OUTER[end], "remote", OUTER[1 - end], "dstport", "4789")  # fmt: skip
            stack.callback(at.run, end, "ip", "link", "del", "dev", "vx")
            at.run(end, "ip", "link", "add", "port", "mtu", mtu, "type", "veth", "peer", "name",
                   DEVICE, "mtu", mtu, "netns", outer)  # fmt: skip
            for name in ("vx", "port"):
                at.run(end, "ip", "link", "set", "dev", name, "master", "br", "up")
            at.run(end, "ip", "link", "set", "dev", "br", "up")
        at.inside = places[0], places[1]
        for end, inner in enumerate((HERE, THERE)):
            at.run(end, "ip", "addr", "add", f"{inner}/24", "dev", DEVICE, inside=True)
            at.run(end, "ip", "link", "set", "dev", DEVICE, "up", inside=True)
        yield
        at.inside = ("", "")


def _until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 2 * UP
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"not up after {2 * UP:.0f} s")
        time.sleep(0.1)


BRIDGED = (Kind("VXLAN by hand, bridged", bridged),)
WEAVE = (
    Kind("weave, fastdp", weave("fastdp")),
    Kind("weave, sleeve in clear", weave("sleeve")),
    Kind("weave, sleeve sealed", weave("sleeve", password="a b c")),
)
