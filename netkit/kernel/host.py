"""The kernel of one host: every resource goes to the adapter of its type."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from netkit.errors import KernelError
from netkit.kernel import conntrack, ethtool, sysctl
from netkit.kernel.adapter import Adapter, Registry
from netkit.kernel.iptables import ipset
from netkit.kernel.iptables.rules import Rules
from netkit.kernel.iptables.tools import Tools, Variant
from netkit.kernel.namespaces import Namespaces
from netkit.kernel.netlink import apply, bpf_redirect, vxlan
from netkit.kernel.netlink.codec import Tally
from netkit.kernel.nftables import tables
from netkit.kernel.ovn.chassis import ChassisRows
from netkit.kernel.ovn.databases import Databases
from netkit.kernel.ovn.logical import LogicalRows
from netkit.kernel.ovn.peers import Peers
from netkit.kernel.ovs.flows import Flows
from netkit.kernel.ovs.ovsdb import Ovsdb
from netkit.kernel.ovs.port_offloads import PortOffloads
from netkit.kernel.ovs.switches import Switches
from netkit.kernel.ovs.tunnel_routes import Routes
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.kernel.session import Session, SpareSockets
from netkit.kernel.uplink.handover import Desk
from netkit.kernel.uplink.uplink import Uplinks
from netkit.model import HOST, Key, State
from netkit.model.layout import Territory
from netkit.model.openvswitch import OvsBridge, OvsPort
from netkit.reconcile.plan import Op

if TYPE_CHECKING:
    from netkit.kernel.netlink.fib import Found

log = logging.getLogger(__name__)


class Host:
    """A netkit.reconcile.converge.Kernel, for real.

    `home` is the file of the namespace that HOST means; "" is the daemon's own.  Namespace
    files below the folder `namespaces` are ours.  `variant` forces one of the iptables; by
    default the one in use is.  For `chains`, `owner`, `territory` and `direct` see `rules.Rules`,
    for `standby` `iptables.Tools`, for `port_maps` `conntrack.published`.  `ovs` is the Open
    vSwitch of this host; it is not connected to before it is needed.  `engine`: whose marks are
    ours in databases that hosts share.

    Limits: reading a route reads the main table of its namespace; a chain that is not empty
    is not deleted; an iptables rule that is edited in place and keeps our comment is not
    noticed.  Where rules publish UDP or SCTP ports, flows go by the new rules at once.
    """

    def __init__(
        self,
        home: str = HOST,
        *,
        namespaces: str = "",
        variant: Variant | None = None,
        chains: tuple[str, ...] = (),
        owner: str | None = None,
        territory: Territory = Territory(),  # noqa: B008  a frozen value
        port_maps: Collection[str] = (),
        standby: bool = False,
        direct: bool = False,
        ovs: Ovsdb | None = None,
        engine: str = "0",
        handovers: str = "/run/netkit/handovers",
    ) -> None:
        self.home = home
        self.tally = Tally()
        self._spare = SpareSockets(self.tally) if home == HOST else None
        self._port_maps = port_maps
        self._rules = Rules(
            home, variant, chains, owner, territory=territory, standby=standby, direct=direct
        )
        ovs = ovs or Ovsdb()
        self.vswitchd = Vswitchd(ovs.folder)
        self.switches = Switches(ovs, self.vswitchd)
        self._flows = Flows(ovs)
        self.ovn = Databases(ovs, engine)
        self.ovn_peers = Peers(self.ovn, self._route)
        self._logical = LogicalRows(self.ovn)
        self._tables = tables.Tables(home)
        self._uplinks = Uplinks(home, Desk(Path(handovers)))
        self._registry = Registry(self._adapters(Namespaces(namespaces), ovs))

    def _adapters(self, namespaces: Namespaces, ovs: Ovsdb) -> tuple[Adapter, ...]:
        """In the order in which they are read."""
        return (
            namespaces.adapter(),
            *self._rules.adapters(),
            self._tables.adapter(),
            ipset.ADAPTER,
            sysctl.ADAPTER,
            *self._open_vswitch(ovs),
            ethtool.ADAPTER,
            bpf_redirect.ADAPTER,
            self._uplinks.adapter(),
            apply.ADAPTER,
            vxlan.ADAPTER,
        )

    def _open_vswitch(self, ovs: Ovsdb) -> Iterable[Adapter]:
        """The first is that of bridges and ports; its full scan finds their flows as well."""
        yield Adapter(
            types=(OvsBridge, OvsPort),
            kinds=frozenset({"ovsbridge", "ovsport"}),
            observe=self.switches.observe,
            apply=self.switches.apply,
            owned=self._switched_if_it_answers,
        )
        yield self._flows.adapter()
        yield Routes(self.vswitchd).adapter()
        yield PortOffloads(ovs, self.vswitchd).adapter()
        yield ChassisRows(self.ovn).adapter()
        yield self._logical.adapter()

    @property
    def variant(self) -> Variant:
        """The iptables in use: "nft" or "legacy"."""
        return self._rules.tools.variant

    @property
    def tools(self) -> Tools:
        return self._rules.tools

    def close(self) -> None:
        """Stop the helper processes; the kernel may be used again."""
        self._rules.close()
        self.ovn.close()
        if self._spare is not None:
            self._spare.close()

    def ready(self, kinds: Collection[str]) -> None:
        """Wait until what keeps resources of these kinds answers.  KernelError: it does not.

        Thread-safe; for a thread that is about to request a change.
        """
        self._registry.ready(kinds)

    def _session(self) -> Session:
        return Session(self.home, self.tally, self._spare)

    def _route(self, to: IPv4Address) -> Found:
        from netkit.kernel.netlink import fib  # for few hosts, and with parts of pyroute2

        with self._session() as session:
            return fib.lookup(session.netlink(HOST), to, None)

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are."""
        with self._session() as session:
            return self._registry.observe(session, keys)

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        """Find resources by their mark, and namespaces by their folder: a full scan.

        With `policy` of the firewall only.
        """
        with self._session() as session:
            return self._registry.owned(session, prefix, policy=policy)

    def switched(self, prefix: str) -> State:
        """`owned`, of what is in Open vSwitch and OVN alone.  KernelError if the first does not
        answer; without the second what is there is left for later."""
        with self._session() as session:
            found = self._switched(session, prefix)
            return {**found, **self._logical.owned_if_it_answers(prefix)}

    def _switched(self, session: Session, prefix: str) -> State:
        if not self.switches.present:
            return {}
        out = self.switches.owned(session, prefix)
        bridges = [(r.name, r.owner) for r in out.values() if isinstance(r, OvsBridge)]
        return {**out, **self._flows.owned(bridges)}

    def _switched_if_it_answers(self, session: Session, prefix: str) -> State:
        try:
            return self._switched(session, prefix)
        except KernelError as e:
            # Not an error: the firewall and links are swept without Open vSwitch, too.  Callers
            # delete only what a scan has found, so that what it has is left alone.
            log.warning("cannot read our bridges, ports and flows of Open vSwitch: %s", e)
            return {}

    def apply(self, ops: Sequence[Op]) -> None:
        """Do the steps in order; consecutive ones of one family go as one batch."""
        with self._session() as session:
            self._registry.apply(session, ops)
            # After the steps: in place of a conntrack entry deleted before, the next datagram makes
            # another by the old rules.
            self._forget_flows(session, ops)

    def _forget_flows(self, session: Session, ops: Sequence[Op]) -> None:
        """Delete conntrack entries of former rules.  A failure is logged: the steps are done."""
        parts = (r for op in ops for r in (op.before, op.after))
        gone = {p for r in parts for p in conntrack.published(r, self._port_maps)}
        if not gone:
            return
        try:
            conntrack.forget(session, gone)
        except KernelError as e:
            log.warning("conntrack may translate by former rules for some minutes: %s", e)
