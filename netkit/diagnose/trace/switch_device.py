"""Follow a frame by a VXLAN device of the kernel's that is a port of Open vSwitch.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from netkit.diagnose.trace.facts import HOST, Observer, Space, SwitchPort
from netkit.diagnose.trace.leg import Doubt, Stop, Tunnel
from netkit.diagnose.trace.stops import usable
from netkit.model.vxlan import ALL

KIND = "VXLAN device"
VXLAN = "vxlan"
Say = Callable[[str, str, str], None]


def devices(ports: Iterable[str], host: Space) -> list[str]:
    """Those of the ports that are VXLAN devices."""
    return [p for p in ports if p in host.nics and host.nics[p].kind == VXLAN]


def leaving(device: str, mac: str, observer: Observer, say: Say) -> tuple[list[Tunnel], Doubt]:
    """To which hosts a frame for `mac` goes.  Stop: to none."""
    host = observer.space(HOST)
    nic = usable(host, device)
    to = host.tunnels.get((device, mac)) or host.tunnels.get((device, ALL), ())
    if not to:
        words = f"{device} has no entry for {mac or 'broadcasts'}, nor for all that have none"
        raise Stop("tunnel-down", words, "netkit net check")
    shown = ", ".join(map(str, to))
    say(host.name, "tunnel", f"{device}, {KIND} with key {nic.vni}, sends it to {shown}")
    tunnels = [
        Tunnel(kind=KIND, remote=str(r), local=_source(device, r, observer), key=nic.vni)
        for r in to
    ]
    return tunnels, Doubt("tunnel-unwatched", f"nothing watches {KIND} {device}: no BFD")


def _source(device: str, remote: IPv4Address, observer: Observer) -> str:
    way = observer.route(HOST, remote)
    if not way.dev or way.source is None:
        words = f"the host has no route to {remote}, to which {device} sends"
        raise Stop("tunnel-down", words, f"ip route add {remote}/32 via GATEWAY")
    return str(way.source)


def entered(tunnel: Tunnel, observer: Observer) -> SwitchPort | None:
    """The port by which what left another host comes in, if this host is its receiver."""
    if tunnel.kind != KIND:
        return None
    host = observer.space(HOST)
    for p in observer.switch_ports():
        nic = host.nics.get(p.name)
        if nic is None or nic.kind != VXLAN or nic.vni != tunnel.key:
            continue
        if IPv4Address(tunnel.local) in host.tunnels.get((p.name, ALL), ()):
            return p
        words = f"{p.name} takes nothing from {tunnel.local}, which is no peer of its network"
        raise Stop("source-guard", words)
    return None
