"""The kernel of one host: every resource goes to the adapter of its type."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel import conntrack, ipsets, links, netns, nft, offload, redirects, settings, wires
from netkit.kernel.handover import Desk
from netkit.kernel.iptables import Tools, Variant
from netkit.kernel.netlink import Tally
from netkit.kernel.ovs import Switches
from netkit.kernel.ovsdb import Ovsdb
from netkit.kernel.ovsflows import Flows
from netkit.kernel.ovsroutes import Routes
from netkit.kernel.rules import Rules
from netkit.kernel.session import Session
from netkit.kernel.strays import Territory
from netkit.kernel.uplink import Uplinks
from netkit.kernel.vswitchd import Vswitchd
from netkit.model import (
    HOST,
    Addr,
    BridgeRedirect,
    Chain,
    Fdb,
    Key,
    Link,
    Neigh,
    Netns,
    Resource,
    Route,
    Rule,
    State,
    Stray,
    Sysctl,
)
from netkit.nft import NftChain, NftElement, NftRule, NftSet, NftTable
from netkit.ovs import Offload, OvsBridge, OvsFlows, OvsPort, OvsRoute
from netkit.plan import Op
from netkit.sets import IpSet
from netkit.uplink import Uplink

log = logging.getLogger(__name__)


class Host:
    """A netkit.converge.Kernel, for real.

    `home` is the file of the namespace that HOST means; "" is the daemon's own.  Namespace
    files below the folder `namespaces` are ours.  `variant` forces one of the iptables; by
    default the one in use is.  For `chains`, `owner` and `territory` see `rules.Rules`, for
    `standby` `iptables.Tools`.  `ovs` is the Open vSwitch of this host; it is not asked for
    anything until something of it is wanted.

    Limits: reading a route reads the main table of its namespace; a chain that is not empty
    is not deleted; an iptables rule that somebody edits in place, keeping our comment, is not
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
        standby: bool = False,
        ovs: Ovsdb | None = None,
        handovers: str = "/run/netkit/handovers",
    ) -> None:
        self.home = home
        self.tally = Tally()
        self._namespaces = namespaces
        self._rules = Rules(home, variant, chains, owner, territory=territory, standby=standby)
        self._tables = nft.Tables(home)
        ovs = ovs or Ovsdb()
        self.vswitchd = Vswitchd(ovs.folder)
        self.switches = Switches(ovs, self.vswitchd)
        self._flows, self._routes = Flows(ovs), Routes(self.vswitchd)
        self._uplinks = Uplinks(home, Desk(Path(handovers)))

    @property
    def variant(self) -> Variant:
        """The iptables in use: "nft" or "legacy"."""
        return self._rules.tools.variant

    @property
    def tools(self) -> Tools:
        return self._rules.tools

    def close(self) -> None:
        """End the processes of ours that a kernel has; it may be used again."""
        self._rules.close()

    def observe(self, keys: Iterable[Key]) -> State:
        """Those of `keys` that exist, as they are."""
        wanted = set(keys)
        kinds: dict[str, set[Key]] = {}
        for key in wanted:
            kinds.setdefault(key[0], set()).add(key)
        out: dict[Key, Resource] = {}
        with Session(self.home, self.tally) as session:
            for key in kinds.get("netns", ()):
                if netns.present(key[1]):
                    out[key] = _seen(key[1])
            for types, adapter in (
                (("chain", "rule", "stray"), self._rules.observe),
                (nft.TYPES, self._tables.observe),
                (("ipset",), ipsets.observe),
                (("sysctl",), settings.observe),
                (("ovsbridge", "ovsport"), self.switches.observe),
                (("ovsflows",), lambda _, keys: self._flows.observe(keys)),
                (("ovsroute",), lambda _, keys: self._routes.observe(keys)),
                (("offload",), offload.observe),
                (("redirect",), redirects.observe),
                (("uplink",), self._uplinks.observe),
            ):
                if concerned := _of(kinds, types):
                    out |= adapter(session, concerned)
            if any(kind in kinds for kind in links.TYPES):
                out |= links.observe(session, _of(kinds, links.PLACED))
        return out

    def owned(self, prefix: str, *, policy: bool = False) -> State:
        """Links, addresses, routes, rules, sets marked so, namespaces by their folder: a full scan.

        With `policy` of the firewall only.  A file that is the remains of a namespace counts as
        one, so that it gets removed.
        """
        if policy:
            with Session(self.home, self.tally) as session:
                found = self._rules.owned(session, prefix) | self._tables.owned(session, prefix)
                return found | ipsets.owned(session, prefix)
        paths = netns.inside_folder(self._namespaces) if self._namespaces else []
        out: dict[Key, Resource] = {n.key: n for n in map(_seen, paths)}
        with Session(self.home, self.tally) as session:
            out |= self._uplinks.owned(session, prefix)
            out |= links.owned(session, prefix)
            out |= self._rules.owned(session, prefix)
            out |= self._tables.owned(session, prefix)
            out |= ipsets.owned(session, prefix)
            try:
                out |= self._switched(session, prefix)
            except KernelError as e:
                log.warning("what Open vSwitch has of ours is not known: %s", e)
        return out

    def switched(self, prefix: str) -> State:
        """`owned`, of what is in Open vSwitch alone.  KernelError if it does not answer."""
        with Session(self.home, self.tally) as session:
            return self._switched(session, prefix)

    def _switched(self, session: Session, prefix: str) -> State:
        if not self.switches.present:
            return {}
        out = self.switches.owned(session, prefix)
        bridges = [(r.name, r.owner) for r in out.values() if isinstance(r, OvsBridge)]
        return {**out, **self._flows.owned(bridges)}

    def apply(self, ops: Sequence[Op]) -> None:
        """Do the steps in order; neighbours of one family go as one batch."""
        done = 0
        with Session(self.home, self.tally) as session:
            for family, members in groupby(ops, key=_family):
                batch = tuple(members)
                try:
                    self._batch(session, family, batch)
                except KernelError as e:
                    e.done += done
                    raise
                done += len(batch)
            self._forget_flows(session, ops)

    def _forget_flows(self, session: Session, ops: Sequence[Op]) -> None:
        """Datagrams go by the rules of now.  Where that fails, the steps were done all the same."""
        gone = {p for op in ops for r in (op.before, op.after) for p in conntrack.published(r)}
        if not gone:
            return
        try:
            conntrack.forget(session, gone)
        except KernelError as e:
            log.warning("flows may go by former rules for some minutes: %s", e)

    def _batch(self, session: Session, family: str, ops: Sequence[Op]) -> None:
        match family:
            case "rules":
                self._rules.apply(session, ops)
            case "strays":
                self._rules.remove_strays(session, ops)
            case "tables":
                self._tables.apply(session, ops)
            case "sets":
                ipsets.apply(session, ops)
            case "uplinks":
                self._uplinks.apply(session, ops)
            case "wires":
                wires.apply(session, ops)
            case "redirects":
                redirects.apply(session, ops)
            case "settings":
                settings.apply(session, ops)
            case "namespaces":
                _namespaces(ops)
            case "switches":
                self.switches.apply(session, ops)
            case "flows":
                self._flows.apply(ops)
            case "ovsroutes":
                self._routes.apply(ops)
            case "offloads":
                offload.apply(session, ops)


def _of(kinds: Mapping[str, set[Key]], types: Iterable[str]) -> set[Key]:
    return set().union(*(kinds.get(kind, ()) for kind in types))


def _seen(path: str) -> Netns:
    return Netns(path=path, mounted=netns.exists(path))


def _family(op: Op) -> str:
    match op.subject:
        case Chain() | Rule():
            return "rules"
        case Stray():
            return "strays"
        case NftTable() | NftChain() | NftSet() | NftElement() | NftRule():
            return "tables"
        case IpSet():
            return "sets"
        case Link() | Addr() | Route() | Neigh() | Fdb():
            return "wires"
        case BridgeRedirect():
            return "redirects"
        case Sysctl():
            return "settings"
        case Netns():
            return "namespaces"
        case OvsBridge() | OvsPort():
            return "switches"
        case OvsFlows():
            return "flows"
        case OvsRoute():
            return "ovsroutes"
        case Offload():
            return "offloads"
        case Uplink():
            return "uplinks"
    raise KernelError(f"{op}: this host cannot have a {type(op.subject).__name__}")


def _namespaces(ops: Sequence[Op]) -> None:
    for done, op in enumerate(ops):
        try:
            match op.before, op.after:
                case _, Netns(path=path, mounted=True):
                    netns.create(path)
                case Netns(path=path), _:
                    netns.remove(path)
        except KernelError as e:
            e.done = done
            raise
