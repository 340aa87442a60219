"""Read the state of a live host for a walk: the only I/O of this package.

Nothing is sent or changed.  Limits: IPv4; XFRM policies and BPF on sockets are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, ip_interface

from netkit.diagnose.explain import live
from netkit.diagnose.explain.facts import Facts, KnownNetwork
from netkit.diagnose.trace import ofproto
from netkit.diagnose.trace.facts import (
    HOST,
    Admission,
    Endpoint,
    Header,
    Located,
    Nic,
    OverlayNetwork,
    Pipeline,
    Registers,
    Socket,
    Space,
    SwitchPort,
    Wall,
    Way,
)
from netkit.diagnose.trace.switch_device import VXLAN
from netkit.errors import KernelError
from netkit.kernel import netns, probe
from netkit.kernel.netlink import fib, neighbours, rtnl, sock_diag
from netkit.kernel.netlink.codec import Netlink, Tally
from netkit.kernel.netlink.tunnels import port as tunnels_of
from netkit.kernel.nftables import senders
from netkit.kernel.ovs.rows import Plugged
from netkit.kernel.ovs.switches import Switches
from netkit.kernel.ovs.vswitchd import Vswitchd
from netkit.kernel.session import Session
from netkit.kernel.sysctl import observe as settings
from netkit.model import HOST as HOME
from netkit.model import Sysctl
from netkit.model.layout import FirewallLayout
from netkit.model.ovn import LogicalPath
from netkit.spec import EndpointRecord

ECHO = "net/ipv4/icmp_echo_ignore_all"
UNWATCHED = frozenset({"unknown", "admin_down"})


class LiveObserver:
    """One look: what was seen once is not looked at again.  `home` is the host's namespace."""

    def __init__(
        self,
        home: str,
        networks: Sequence[KnownNetwork],
        endpoints: Sequence[EndpointRecord],
        namespace: Callable[[str], str],
        switches: Switches,
        vswitchd: Vswitchd,
        access: Mapping[str, str],
        layouts: Sequence[FirewallLayout],
        firewall: Callable[[], Wall],
        locate: Callable[[int, str, str], Located],
        names: Callable[[Registers], LogicalPath] = lambda _: LogicalPath(),
    ) -> None:
        """`locate`: see `Observer.located`; the address as text.  `names`: `Observer.logical`."""
        self._home = home
        self._networks = {n.id: n for n in networks}
        self._records = endpoints
        self._namespace = namespace
        self._switches = switches
        self._vswitchd = vswitchd
        self._access, self._layouts = access, layouts  # as explain.live has them
        self._firewall, self._locate, self._names = firewall, locate, names
        self._spaces: dict[str, Space] = {}
        self._ports: list[SwitchPort] | None = None

    def space(self, key: str) -> Space:
        if key not in self._spaces:
            self._spaces[key] = self._look(key)
        return self._spaces[key]

    def wiring(self) -> Facts:
        """Interfaces, bridges and containers of the host, and none of its firewall's rules."""
        known, records = self._networks.values(), self._records
        return live.look(self._home, known, records, self._namespace, rules=False)

    def _exists(self, sandbox: str) -> bool:
        path = self._namespace(sandbox)
        return path == HOME or netns.exists(path)

    def _path(self, key: str) -> str:
        return self._home if key == HOST else self._namespace(key)

    def _look(self, key: str) -> Space:
        path = self._path(key)
        known: tuple[Iterable[KnownNetwork], Iterable[EndpointRecord]] = ((), ())
        if key == HOST:
            known = (self._networks.values(), self._records)
        facts = live.look(path, *known, self._namespace, self._access, self._layouts)
        with Session(path, Tally()) as session:
            netlink = session.netlink(HOME)
            seen = probe.links(netlink)
            names = {s.seen.index: s.seen.name for s in seen}
            known_macs = {
                (names[i], address): mac
                for i, address, mac in neighbours.neighbours(netlink)
                if i in names
            }
            fdb = {
                (names[e.bridge], e.mac): names[e.port]
                for e in neighbours.forwarding(netlink)
                if e.bridge in names and e.port in names
            }
            ends = [s.seen for s in seen if key == HOST and s.seen.kind == VXLAN]
            tunnels = _tunnels(netlink, {end.index: end.name for end in ends})
            echo = settings(session, [("sysctl", HOME, ECHO)])
        waiting = sock_diag.waiting(path)
        return Space(
            key=key,
            name="the host" if key == HOST else f"container {self._name(key)}",
            facts=facts,
            nics={s.seen.name: self._nic(s, key) for s in seen},
            neighbours=known_macs,
            fdb=fdb,
            tunnels=tunnels,
            sockets=tuple(
                Socket(proto=w.proto, address=w.address, port=w.port, nic=names.get(w.index, ""))
                for w in waiting
            ),
            ignores_echo=any(isinstance(r, Sysctl) and r.value == "1" for r in echo.values()),
            path=path,
        )

    def _name(self, key: str) -> str:
        return next((e.owner_name for e in self._records if e.sandbox == key), key[:12])

    def _nic(self, found: probe.Inspected, key: str) -> Nic:
        link = found.seen
        peer = ""
        if key != HOST and link.kind == "veth":
            peer = self._peer(link.index, link.link)
        return Nic(
            name=link.name,
            kind=link.kind,
            mac=link.mac,
            mtu=link.mtu,
            up=link.up,
            carrier=found.carrier,
            forwards=found.forwards,
            peer=peer,
            hooked=found.hooked,
            vni=int(dict(link.options or ()).get("id", "0")),
        )

    def _peer(self, index: int, at: int) -> str:
        """The host's link at that index, if it is a veth whose peer is ours."""
        with Session(self._home, Tally()) as session:
            other = session.link(HOME, at)
        return other.name if other and other.kind == "veth" and other.link == index else ""

    def addresses(self, key: str) -> list[IPv4Address]:
        """All of a namespace."""
        with Session(self._path(key), Tally()) as session:
            found = map(rtnl.seen_addr, session.netlink(HOME).dump(rtnl.addresses(0)))
            return [a.address.ip for a in found if isinstance(a.address, IPv4Interface)]

    def route(self, key: str, dst: IPv4Address, src: IPv4Address | None = None) -> Way:
        with Session(self._path(key), Tally()) as session:
            found = fib.lookup(session.netlink(HOME), dst, src)
            link = session.link(HOME, found.oif) if found.oif else None
        if link is None:
            return Way(why=found.why or "no route")
        return Way(
            dev=link.name,
            gateway=found.gateway,
            source=found.source,
            prefix=found.prefix,
            local=found.local,
        )

    def endpoints(self) -> Sequence[Endpoint]:
        """Those whose container has not ended: another engine may request their removal later."""
        out = []
        there = {s for s in {r.sandbox for r in self._records} if self._exists(s)}
        alive = [r for r in self._records if r.sandbox in there]
        for e, text in [(r, text) for r in alive for text in r.addresses]:
            address = ip_interface(text)
            network = self._networks.get(e.network)
            if isinstance(address, IPv4Interface) and network is not None:
                out.append(
                    Endpoint(
                        space=e.sandbox,
                        container=e.owner_name,
                        network=network.name,
                        address=address.ip,
                        mac=e.mac,
                        ifname=e.ifname,
                        icc=network.icc,
                    )
                )
        return out

    def firewall(self) -> Wall:
        return self._firewall()

    # -- overlays ----------------------------------------------------------------

    def overlays(self) -> Sequence[OverlayNetwork]:
        return [
            OverlayNetwork(name=n.name, ports=n.overlay)
            for n in self._networks.values()
            if n.overlay is not None
        ]

    def located(self, vni: int, *, mac: str = "", address: IPv4Address | None = None) -> Located:
        return self._locate(vni, mac, str(address or ""))

    def admits(self, host: IPv4Address, vni: int, mac: str, address: IPv4Address) -> Admission:
        port = next((n.ports.port for n in self.overlays()), 0)
        with senders.connection(self._home) as netlink:
            check = senders.SenderCheck(self._home, port)
            if not check.present(netlink):
                return "unchecked"
            if not check.intact(netlink):
                return "unknown"
            key = senders.sender(host.packed, vni, mac, address.packed)
            return "admitted" if key in check.senders(netlink) else "dropped"

    # -- Open vSwitch ------------------------------------------------------------

    def switch_ports(self) -> Iterable[SwitchPort]:
        if self._ports is None:
            found = self._switches.plugged() if self._switches.present else []
            self._ports = [_port(p) for p in found]
        return self._ports

    def pipeline(self, bridge: str, port: int, header: Header) -> Pipeline:
        names = ofproto.ports(self._vswitchd.ask("dpif/show"))
        self._must_know_gateways(bridge)
        ask = ("ofproto/trace", bridge, ofproto.question(header, port))
        found = ofproto.pipeline(self._vswitchd.ask(*ask), names)
        if not (header.answer and found.tracked):
            return found
        known = self._vswitchd.ask(*ask, *ofproto.AS_KNOWN)
        return ofproto.either(found, ofproto.pipeline(known, names))

    def logical(self, registers: Registers) -> LogicalPath:
        return self._names(registers)

    def _must_know_gateways(self, bridge: str) -> None:
        """The userspace datapath asks by ARP for a tunnel's next hop that it has not in mind,
        even for a trace: then we do not ask."""
        if "netdev@" not in self._vswitchd.ask("dpif/show"):
            return
        known = self._vswitchd.ask("tnl/neigh/show").split()
        for p in self.switch_ports():
            if p.bridge != bridge or p.remote is None:
                continue
            said = self._vswitchd.ask("ovs/route/lookup", str(p.remote))
            words = dict(line.split(None, 1) for line in said.splitlines() if " " in line)
            if words.get("gateway", "") not in known and str(p.remote) not in known:
                raise KernelError(
                    f"Open vSwitch does not know the MAC address of the next hop to {p.remote}"
                    " yet, and would ask for it"
                )


def _tunnels(
    netlink: Netlink, devices: Mapping[int, str]
) -> dict[tuple[str, str], tuple[IPv4Address, ...]]:
    """The tables of VXLAN devices: (name, MAC) -> hosts."""
    out: dict[tuple[str, str], tuple[IPv4Address, ...]] = {}
    for index, name in devices.items():
        for mac, host in sorted(tunnels_of(netlink, index).tunnels):
            out[name, mac] = (*out.get((name, mac), ()), IPv4Address(host))
    return out


def _port(p: Plugged) -> SwitchPort:
    key = p.options.get("key") or p.options.get("out_key") or "0"
    return SwitchPort(
        name=p.name,
        bridge=p.bridge,
        number=p.number,
        kind=p.kind or "system",
        remote=_address(p.options.get("remote_ip", "")),
        local=_address(p.options.get("local_ip", "")),
        key=int(key, 0) if key != "flow" else 0,
        any_key=key == "flow",
        state="" if p.state in UNWATCHED else p.state,
        diagnostic=p.diagnostic,
        beginning=p.beginning,
    )


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None
