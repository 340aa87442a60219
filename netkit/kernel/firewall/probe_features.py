"""Probe which features of the firewall work on this host, in a scratch network namespace.

Only what the chosen back end needs is tried, all of it in one commit if that works (15 ms);
only where it does not is each thing tried by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.firewall.detect_backend import Backend, Choice
from netkit.kernel.iptables import agreement, ipset, tools
from netkit.kernel.iptables.nft_compat import HEADER, NETLINK_NETFILTER
from netkit.kernel.iptables.tools import FORBIDDEN, Variant
from netkit.kernel.netlink import rtnl
from netkit.kernel.netlink.codec import Netlink, Request, Tally
from netkit.kernel.session import Session
from netkit.model import HOST
from netkit.model.ipset import IpSet
from netkit.reconcile.plan import Op

PROBE_SET = IpSet(name="nks-probe", members=(IPv4Network("192.0.2.0/24"),))
LIST_CONNECTIONS = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
BRIDGED = "/proc/sys/net/bridge/bridge-nf-call-iptables"

# By name: a table, and a rule in it.
IPTABLES = {
    "addrtype": ("filter", "-A FORWARD -m addrtype --dst-type LOCAL -j RETURN"),
    "conntrack": ("filter", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"),
    "original port": (
        "filter",
        "-A FORWARD -p tcp -m conntrack --ctstate DNAT --ctorigdstport 1:2 -j DROP",
    ),
    "comment": ("filter", "-A FORWARD -m comment --comment probe -j RETURN"),
    "multiport": ("filter", "-A FORWARD -p tcp -m multiport --dports 1,2:3 -j RETURN"),
    "mac": ("filter", "-A FORWARD -m mac --mac-source 02:00:00:00:00:01 -j RETURN"),
    "set": ("filter", f"-A FORWARD -m set --match-set {PROBE_SET.name} src -j DROP"),
    "masquerade": ("nat", "-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE"),
    "raw table": ("raw", "-A PREROUTING -s 192.0.2.0/24 -j DROP"),
}
NFTABLES = {
    "nat": "chain d { type nat hook prerouting priority dstnat; }",
    "concatenations of intervals": (
        "map p { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; "
        "flags interval; elements = { 192.0.2.0/24 . tcp . 1-2 : 192.0.2.1 . 3 } }"
    ),
    "link-layer addresses": "chain l { ether saddr 02:00:00:00:00:01 accept; }",
    "verdict maps": (
        "map v { type ifname . ifname : verdict; elements = { nk0 . nk1 : drop } }\n"
        "chain f { type filter hook forward priority filter; iifname . oifname vmap @v; }"
    ),
    "conntrack": "chain c { ct state established,related accept; ct status dnat accept; }",
    "original port": "chain o { meta l4proto tcp ct original proto-dst 1-2 drop; }",
    "fib": "chain a { fib daddr type local accept; }",
    "comment": 'comment "probe"; chain n { counter comment "probe"; }',
}
# What is lost without it; what is not here is needed by every network.
OPTIONAL = {
    "set": "a long address list is a rule for each address",
    "multiport": "ports of one container are a rule each",
    "mac": "with icc=false, a linked neighbour is known by its IP address alone",
    "locked ports": "with icc=false, a container that sends from a neighbour's MAC address gets in",
    "br_netfilter": "rules between containers of one network are left to bridge port isolation",
    "conntrack netlink": "UDP flows to a removed container linger for up to 3 minutes",
    "rules by netlink": "iptables-nft-restore commits them all, 2 ms a change",
    "python-iptables": "legacy rules are committed by iptables-legacy-restore",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    why_not: str = ""  # "" if it works

    @property
    def works(self) -> bool:
        return not self.why_not


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    backend: Backend
    version: str  # of its tools
    all: tuple[Feature, ...]

    @property
    def missing(self) -> tuple[Feature, ...]:
        """Missing features that all networks need."""
        return tuple(f for f in self.all if not f.works and f.name not in OPTIONAL)

    @property
    def lost(self) -> tuple[tuple[Feature, str], ...]:
        """Missing features that are optional, and the consequences."""
        return tuple((f, OPTIONAL[f.name]) for f in self.all if not f.works and f.name in OPTIONAL)

    def works(self, name: str) -> bool:
        return any(f.name == name and f.works for f in self.all)

    def check(self) -> None:
        """Raise KernelError naming all that is missing."""
        if self.missing:
            said = "; ".join(f"{f.name} ({f.why_not})" for f in self.missing)
            raise KernelError(f"{self.backend} cannot be used on this host, it lacks {said}")


def info(choice: Choice, found: Features, committer: str = "") -> dict[str, object]:
    """Return `docker info`'s FirewallBackend: a driver, and pairs of words about it."""
    pairs = [["Chosen", choice.reason], ["Version", found.version]]
    if committer:
        pairs.append(["Committed by", committer])
    pairs += [[f"Missing {f.name}", f"{f.why_not}"] for f in found.missing]
    pairs += [[f"Without {f.name}", f"{effect} ({f.why_not})"] for f, effect in found.lost]
    return {"Driver": choice.backend, "Info": pairs}


def probe(backend: Backend) -> Features:
    """Probe everything in a scratch namespace.  KernelError if the tools are not installed."""
    with netns.scratch():
        if backend == "nftables":
            said = tools.run(HOST, ["nft", "-V"]).stdout.split()
            version = said[1].lstrip("v") if len(said) > 1 else ""
            found = list(_by(tuple(NFTABLES), _nftables))
        else:
            variant: Variant = "legacy" if backend == "iptables-legacy" else "nft"
            number = tools.version(HOST, variant)
            version = ".".join(map(str, number))
            found = [*_iptables(variant)]
            if variant == "legacy":
                found.append(_python_iptables(number))
            else:
                found.append(Feature(name="rules by netlink", why_not=agreement.disagreement()))
        found += [_bridged(), _locked(), _connections()]
    return Features(backend=backend, version=version, all=tuple(found))


def _by(names: Sequence[str], attempt: Callable[[Sequence[str]], str]) -> Iterator[Feature]:
    """All at once, and one by one if that fails."""
    together = attempt(names)
    for name in names:
        yield Feature(name=name, why_not=attempt([name]) if together else "")


def _iptables(variant: Variant) -> Iterator[Feature]:
    no_set = _set_up()

    def attempt(names: Sequence[str]) -> str:
        lines = [IPTABLES[name] for name in names]
        text = ""
        for table in sorted({t for t, _ in lines}):
            text += "\n".join([f"*{table}", *(r for t, r in lines if t == table), "COMMIT", ""])
        done = tools.run(HOST, [f"iptables-{variant}-restore", "-n", "-w", "5"], text)
        return tools.complaint(done)

    yield from _by([n for n in IPTABLES if n != "set" or not no_set], attempt)
    if no_set:
        yield Feature(name="set", why_not=no_set)


def _set_up() -> str:
    """Make a set that a rule may refer to; why that is not possible."""
    try:
        with Session(HOST, Tally()) as session:
            ipset.apply(session, [Op(None, PROBE_SET)])
    except KernelError as e:
        return str(e)
    return ""


def _nftables(names: Sequence[str]) -> str:
    body = "\n".join(NFTABLES[n] for n in names)
    text = f"table ip nk-probe {{\n{body}\n}}\ndelete table ip nk-probe\n"
    done = tools.run(HOST, ["nft", "-f", "-"], text)
    return tools.complaint(done)


def _python_iptables(version: tuple[int, ...]) -> Feature:
    crashes = "it crashes with iptables 1.8.11 and later" if version >= FORBIDDEN else ""
    return Feature(name="python-iptables", why_not=crashes)


def _bridged() -> Feature:
    there = Path(BRIDGED).exists()
    return Feature(name="br_netfilter", why_not="" if there else "the module is not loaded")


def _locked() -> Feature:
    """A port of a bridge is made, and asked what it knows of locks: Linux 5.18."""
    bridge, port = 2, 4  # indexes, in a namespace where there is nothing but lo
    far = rtnl.far_end("nk-far", port + 1, None, mtu=None, mac=None)
    flags = rtnl.set_port(port, {"locked": True})
    try:
        with Netlink() as netlink:
            replies = netlink.run(
                [
                    rtnl.link("nk-bridge", bridge, "bridge", mtu=None, mac=None),
                    rtnl.veth("nk-port", port, far, mtu=None, mac=None),
                    rtnl.set_link(port, master=bridge),
                    flags,
                    rtnl.get_link(port),
                ]
            )
            for reply in replies:
                reply.check("try a locked port")
    except KernelError as e:
        return Feature(name="locked ports", why_not=str(e))
    known = rtnl.seen_link(replies[-1].messages[0]).port.get("locked")
    return Feature(name="locked ports", why_not="" if known else "Linux before 5.18")


def _connections() -> Feature:
    try:
        with Netlink(NETLINK_NETFILTER) as netlink:
            netlink.dump(Request(LIST_CONNECTIONS, HEADER.pack(2, 0, 0)))
    except KernelError as e:
        return Feature(name="conntrack netlink", why_not=str(e))
    return Feature(name="conntrack netlink")
