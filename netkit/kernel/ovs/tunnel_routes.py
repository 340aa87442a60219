"""The routes of the userspace datapath's tunnels.  ovs-vswitchd forgets them when it ends.

Source: ovs-vswitchd(8), "ovs/route".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network

from netkit.errors import KernelError
from netkit.kernel.adapter import Adapter
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.model import Key, Resource
from netkit.model.openvswitch import TunnelRoute
from netkit.reconcile.plan import Op

_ROUTE = re.compile(r"^User: (\S+) dev (\S+) GW (\S+)", re.M)


class Routes:
    def __init__(self, daemon: Vswitchd) -> None:
        self._daemon = daemon

    def adapter(self) -> Adapter:
        return Adapter(
            types=(TunnelRoute,),
            kinds=frozenset({"ovsroute"}),
            observe=lambda _, keys: self.observe(keys),
            apply=lambda _, ops: self.apply(ops),
        )

    def observe(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Observe the routes; none without the daemon."""
        wanted, said = set(keys), ""
        with suppress(KernelError):
            said = self._daemon.ask("ovs/route/show")
        found = (
            TunnelRoute(dst=ip_network(dst), bridge=bridge, gateway=ip_address(gateway))
            for dst, bridge, gateway in _ROUTE.findall(said)
        )
        return {r.key: r for r in found if r.key in wanted}

    def apply(self, ops: Sequence[Op]) -> None:
        """Set in order; deleting one does nothing."""
        for done, op in enumerate(ops):
            if not isinstance(op.after, TunnelRoute):
                continue
            r = op.after
            try:
                with suppress(KernelError):  # there is none, mostly
                    self._daemon.ask("ovs/route/del", str(r.dst))
                self._daemon.ask("ovs/route/add", str(r.dst), r.bridge, str(r.gateway))
            except KernelError as e:
                e.done = done
                raise
