"""The routes of the userspace datapath's tunnels.  ovs-vswitchd forgets them when it ends.

It knows the MAC address of a route's neighbour for 15 minutes without a packet, and then drops one
to ask for it.  So that entry, which is a cache's, is filled whenever routes are looked at, and
corrected where another interface has the address since.
Source: ovs-vswitchd(8), "ovs/route", "tnl/neigh".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.rtnl import SeenLink
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.kernel.session import Session
from netkit.model import HOST, IPAddress, Key, Resource
from netkit.model.openvswitch import TunnelRoute
from netkit.reconcile.plan import Op

_ROUTE = re.compile(r"^User: (\S+) dev (\S+) GW (\S+)", re.M)


def address_holder(session: Session, address: IPAddress) -> SeenLink | None:
    """The interface of the host that has this address."""
    for raw in session.netlink(HOST).dump(rtnl.addresses(0)):
        if rtnl.seen_addr(raw).address.ip == address:
            return session.link(HOST, rtnl.IFADDR.unpack_from(raw)[4])
    return None


class Routes:
    def __init__(self, daemon: Vswitchd) -> None:
        self._daemon = daemon

    def adapter(self) -> Adapter:
        return Adapter(
            types=(TunnelRoute,),
            kinds=frozenset({"ovsroute"}),
            observe=self.observe,
            apply=self.apply,
        )

    def observe(self, session: Session, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Observe the routes; none without the daemon."""
        wanted, said = set(keys), ""
        with suppress(KernelError):
            said = self._daemon.ask("ovs/route/show")
        made = (
            TunnelRoute(dst=ip_network(dst), bridge=bridge, gateway=ip_address(gateway))
            for dst, bridge, gateway in _ROUTE.findall(said)
        )
        found = {r.key: r for r in made if r.key in wanted}
        for bridge, gateway in sorted({(r.bridge, r.gateway) for r in found.values()}, key=str):
            self._introduce(session, bridge, gateway)
        return dict(found)

    def _introduce(self, session: Session, bridge: str, gateway: IPAddress) -> None:
        """Fill the cache with a neighbour of the bridge: this host.  Errors do not count."""
        with suppress(KernelError):
            link = address_holder(session, gateway)
            if link is None or not link.mac:
                return
            known = re.compile(rf"^{re.escape(str(gateway))}\s+{link.mac}\s", re.M)
            if not known.search(self._daemon.ask("tnl/neigh/show")):
                self._daemon.ask("tnl/neigh/set", bridge, str(gateway), link.mac)

    def apply(self, session: Session, ops: Sequence[Op]) -> None:
        """Set in order; deleting one does nothing."""
        for done, op in enumerate(ops):
            if not isinstance(op.after, TunnelRoute):
                continue
            r = op.after
            try:
                with suppress(KernelError):  # there is none, mostly
                    self._daemon.ask("ovs/route/del", str(r.dst))
                self._daemon.ask("ovs/route/add", str(r.dst), r.bridge, str(r.gateway))
                self._introduce(session, r.bridge, r.gateway)
            except KernelError as e:
                e.done = done
                raise
