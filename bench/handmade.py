"""Set up by hand what drivers are compared with: bridges, a GRE tunnel, routes over one."""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path

from bench.flows import Flow
from netkit.lab.openvswitch import OpenVSwitch

NEAR, FAR = "169.254.251.1/30", "169.254.251.2/30"  # of the way to an Open vSwitch kept apart


def _file(namespace: str) -> str:
    return f"/run/netns/{namespace}"


def _flow(namespaces: Iterable[str], address: str) -> Flow:
    """From the first of two namespaces to the second."""
    client, server = namespaces
    return Flow(_file(client), _file(server), address)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)


def _space(stack: ExitStack) -> str:
    name = f"nk-bd-{secrets.token_hex(3)}"
    _run("ip", "netns", "add", name)
    stack.callback(_run, "ip", "netns", "del", name)
    _run("ip", "-n", name, "link", "set", "lo", "up")
    return name


def _wire(space: str, name: str, far: str, address: str = "", mtu: int = 1500) -> None:
    """A veth `name` in `space`; its other end is eth0 of the namespace `far`."""
    _run("ip", "-n", space, "link", "add", name, "mtu", str(mtu), "type", "veth",
         "peer", "name", "eth0", "netns", far, "mtu", str(mtu))  # fmt: skip
    if address:
        _run("ip", "-n", far, "addr", "add", address, "dev", "eth0")
    _run("ip", "-n", space, "link", "set", name, "up")
    _run("ip", "-n", far, "link", "set", "eth0", "up")


def _bridge(space: str, *ports: str) -> None:
    _run("ip", "-n", space, "link", "add", "br0", "type", "bridge")
    _run("ip", "-n", space, "link", "set", "br0", "up")
    for port in ports:
        _run("ip", "-n", space, "link", "set", port, "master", "br0")


# As iptables has the packets of a tunnel.
PACKETS = {
    "gre": ("-p", "47"),
    "vxlan": ("-p", "udp", "--dport", "4789"),
    "geneve": ("-p", "udp", "--dport", "6081"),
}
MTU = {"gre": 1458, "vxlan": 1450, "geneve": 1450}  # bytes, of containers


def _rules(space: str, subnet: str, bridge: str = "br0") -> None:
    """What an administrator gives a bridge for the protection that netkit's has.

    Containers are masqueraded, answers come in, nothing else does; neighbours reach each other.
    """
    for rule in (
        f"-t nat -A POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE",
        f"-A FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"-A FORWARD ! -i {bridge} -o {bridge} -j DROP",
        f"-A FORWARD -i {bridge} -j ACCEPT",
    ):
        _run("nsenter", f"--net=/run/netns/{space}", "--", "iptables", *rule.split())


def _guard(space: str, port: str, mac: str, address: str) -> None:
    """A container sends from its own addresses alone, as with the lan driver."""
    _run("nsenter", f"--net=/run/netns/{space}", "--", "nft",
         "table bridge guard { chain ports { type filter hook prerouting priority -300;"
         f" iifname {port} ether saddr != {mac} drop;"
         f" iifname {port} ether type ip ip saddr != {address} drop;"
         f" iifname {port} ether type arp arp saddr ip != {address} drop; }}; }}")  # fmt: skip


def _mac(space: str) -> str:
    """The MAC address of eth0 in a namespace."""
    shown = subprocess.run(["ip", "-n", space, "-j", "link", "show", "eth0"], check=True,
                           capture_output=True, text=True, timeout=30)  # fmt: skip
    return str(json.loads(shown.stdout)[0]["address"])


def _frames(space: str, shown: bool | None) -> None:
    """Whether rules see what bridges forward (br_netfilter); None: as the kernel has it."""
    if shown is not None:
        _run("nsenter", f"--net=/run/netns/{space}", "--", "sysctl", "-qw",
             f"net.bridge.bridge-nf-call-iptables={int(shown)}")  # fmt: skip


def _guard_port(switch: OpenVSwitch, mac: str, address: str) -> None:
    """As `_guard`, at the port c0 of an Open vSwitch bridge."""
    own = f"in_port=c0,dl_src={mac}"
    flows = (
        f"priority=30,{own},ip,nw_src={address},actions=NORMAL",
        f"priority=30,{own},arp,arp_spa={address},actions=NORMAL",
        "priority=20,in_port=c0,actions=drop",
        f"priority=10,dl_src={mac},actions=drop",
        f"priority=10,arp,arp_spa={address},actions=drop",
    )
    switch.ofctl("add-flows", "br-int", "-", text="\n".join(flows))


def _translate(home: str, n: int, switch: OpenVSwitch, kind: str) -> None:
    """Between eth0, which has the host's address, and phy0, which leads to Open vSwitch."""
    (here, _), (there, _), peer = NEAR.split("/"), FAR.split("/"), f"10.0.0.{3 - n}"

    def at(*argv: str) -> None:
        _run("nsenter", f"--net=/run/netns/{home}", "--", *argv)

    at("ip", "addr", "add", f"10.0.0.{n}/24", "dev", "eth0")
    at("ip", "addr", "add", NEAR, "dev", "phy0")
    at("ip", "addr", "add", FAR, "dev", "br-phy", "noprefixroute")
    at("ip", "route", "del", "local", there, "table", "local")  # it is not the host's
    at("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.phy0.accept_local=1",
       "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.phy0.rp_filter=0")  # fmt: skip
    mac = switch.vsctl("get", "interface", "br-phy", "mac_in_use").strip().strip('"')
    at("ip", "route", "replace", f"{there}/32", "dev", "phy0")
    at("ip", "neigh", "replace", there, "lladdr", mac, "dev", "phy0")
    at("iptables", "-t", "nat", "-A", "PREROUTING", "-s", peer, *PACKETS[kind],
       "-j", "DNAT", "--to-destination", there)  # fmt: skip
    at("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", there, "-j", "MASQUERADE")
    switch.appctl("ovs/route/add", f"{peer}/32", "br-phy", here)


@contextmanager
def plain(*, rules: bool = False, frames: bool | None = None) -> Iterator[Flow]:
    """Two namespaces on a bridge.

    `rules`: with those that protect it as netkit's are; `frames`: as with `_frames`.
    """
    with ExitStack() as stack:
        home, one, two = _space(stack), _space(stack), _space(stack)
        _wire(home, "p1", one, "10.40.0.1/24")
        _wire(home, "p2", two, "10.40.0.2/24")
        _bridge(home, "p1", "p2")
        _frames(home, frames)
        if rules:
            _rules(home, "10.40.0.0/24")
        yield _flow((one, two), "10.40.0.2")


@contextmanager
def router() -> Iterator[tuple[str, str, str, str]]:
    """Paths of a host, of two containers at p1 and p2 of its bridge, and of a neighbour."""
    with ExitStack() as stack:
        home, one, two, outside = (_space(stack) for _ in range(4))
        _wire(home, "p1", one, "10.45.0.1/24")
        _wire(home, "p2", two, "10.45.0.2/24")
        _bridge(home, "p1", "p2")
        _run("ip", "-n", home, "addr", "add", "10.45.0.254/24", "dev", "br0")
        _wire(home, "o0", outside, "10.46.0.2/24")
        _run("ip", "-n", home, "addr", "add", "10.46.0.1/24", "dev", "o0")
        _run("ip", "-n", outside, "route", "add", "default", "via", "10.46.0.1")
        for container in (one, two):
            _run("ip", "-n", container, "route", "add", "default", "via", "10.45.0.254")
        _run("nsenter", f"--net=/run/netns/{home}", "--", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield _file(home), _file(one), _file(two), _file(outside)


@contextmanager
def segment(*, rules: bool = False, frames: bool | None = None) -> Iterator[Flow]:
    """Two hosts on one segment, each with its NIC and a container on a bridge.

    `rules`: the bridges have some, and the first container's port a guard; `frames`: see `_frames`.
    """
    with ExitStack() as stack:
        between, containers = _space(stack), [_space(stack), _space(stack)]
        for n, container in enumerate(containers, 1):
            home = _space(stack)
            _wire(between, f"u{n}", home)
            _wire(home, "c0", container, f"10.44.0.{n}/24")
            _bridge(home, "eth0", "c0")
            _frames(home, frames)
            if rules:
                _rules(home, "172.17.0.0/16")
            if rules and n == 1:
                _guard(home, "c0", _mac(container), "10.44.0.1")
        _bridge(between, "u1", "u2")
        yield _flow(containers, "10.44.0.2")


@contextmanager
def gre() -> Iterator[Flow]:
    """Two hosts, each with an Open vSwitch of the userspace datapath, and a tunnel.

    As in Open vSwitch's own "Userspace tunneling": the host's NIC is in a bridge that has its
    address.
    """
    with ExitStack() as stack:
        hosts = _tunnelled(stack, "10.41.0.{}/24", _Made())
        yield _flow((container for _, container in hosts), "10.41.0.2")


@contextmanager
def apart(kind: str = "gre", *, as_driver: bool = False) -> Iterator[Flow]:
    """Like `gre`, with any `kind` of tunnel, and the host's NIC left alone as by the driver: the
    host translates between its own address and that of Open vSwitch, to which a veth pair leads.

    `as_driver`: a local port leads there, and the hosts have rules as netkit's do.
    """
    with ExitStack() as stack:
        made = _Made(translated=True, kind=kind, as_driver=as_driver)
        hosts = _tunnelled(stack, "10.45.0.{}/24", made)
        yield _flow((container for _, container in hosts), "10.45.0.2")


@contextmanager
def routed(*, as_driver: bool = False) -> Iterator[Flow]:
    """Like `apart`, with a subnet for each host: the hosts route, over a separate subnet."""
    with ExitStack() as stack:
        made = _Made(translated=True, as_driver=as_driver)
        hosts = _tunnelled(stack, "10.42.{}.2/24", made)
        for n, (home, container) in enumerate(hosts, 1):
            far = 3 - n
            _run("ip", "-n", home, "addr", "add", f"10.42.{n}.1/24", "dev", "br-int")
            _run("ip", "-n", home, "addr", "add", f"10.43.0.{n}/24", "dev", "br-int")
            _run("ip", "-n", home, "link", "set", "br-int", "mtu", "1458", "up")
            _run("ip", "-n", home, "route", "add", f"10.42.{far}.0/24", "via", f"10.43.0.{far}")
            _run("nsenter", f"--net=/run/netns/{home}", "sysctl", "-qw", "net.ipv4.ip_forward=1")
            _run("nsenter", f"--net=/run/netns/{home}", "ethtool", "-K", "br-int", "tx", "off")
            _run("ip", "-n", container, "route", "add", "default", "via", f"10.42.{n}.1")
            # Else a container believes its host's ICMP redirect, and sends to the other host by
            # the switch: what is measured then is routed at one host, not at both.
            for where in ("all", "eth0"):
                _run("nsenter", f"--net=/run/netns/{container}", "sysctl", "-qw",
                     f"net.ipv4.conf.{where}.accept_redirects=0")  # fmt: skip
        yield _flow((container for _, container in hosts), "10.42.2.2")


@dataclass(frozen=True, kw_only=True)
class _Made:
    """How two hosts with a tunnel are made; see `apart`."""

    kind: str = "gre"
    translated: bool = False
    as_driver: bool = False


def _tunnelled(stack: ExitStack, address: str, how: _Made) -> list[tuple[str, str]]:
    """Two hosts with a container each, whose `br-int` a tunnel joins; host and container.

    The bridges come first, as with the driver: vswitchd polls its ports in the order of their
    numbers.  In a favourable order a packet that passes the host's kernel is forwarded in the same
    turn, which saves 50 us each time (a quarter of a round trip).
    """
    between = _space(stack)
    made = []
    for n in (1, 2):
        home, container = _space(stack), _space(stack)
        _wire(between, f"u{n}", home)
        _wire(home, "c0", container, address.format(n), MTU[how.kind])
        # Else the host, too, answers for its addresses there, and a container that takes c0 for its
        # gateway's interface sends past Open vSwitch: half of a routed path would not be in it.
        for setting in ("ipv4.conf.c0.arp_ignore=8", "ipv6.conf.c0.disable_ipv6=1"):
            _run("nsenter", f"--net=/run/netns/{home}", "sysctl", "-qw", f"net.{setting}")
        _run("nsenter", f"--net=/run/netns/{container}", "ethtool", "-K", "eth0", "tx", "off")
        folder = Path(tempfile.mkdtemp(prefix="nk-bd-"))
        switch = OpenVSwitch(f"/run/netns/{home}", folder, segmenting=False)
        stack.callback(switch.remove)
        switch.start()
        for bridge in ("br-int", "br-phy"):
            switch.vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")
        _underlay(home, n, switch, how)
        switch.vsctl(
            *("add-port", "br-int", "c0", "--", "add-port", "br-int", "tun0"),
            *("--", "set", "interface", "tun0", f"type={how.kind}"),
            f"options:remote_ip=10.0.0.{3 - n}",
            "options:key=7",
        )
        if how.as_driver:
            _protect(home, switch, _mac(container), address.format(n))
        made.append((home, container))
    _bridge(between, "u1", "u2")
    return made


def _underlay(home: str, n: int, switch: OpenVSwitch, how: _Made) -> None:
    """Lead `br-phy` to the other host: by the NIC itself, or by translation at the host."""
    if how.as_driver:
        internal = ("--", "set", "interface", "phy0", "type=internal")
        switch.vsctl("add-port", "br-phy", "phy0", *internal)
        _run("ip", "-n", home, "link", "set", "phy0", "up")
    elif how.translated:
        _run("ip", "-n", home, "link", "add", "phy0", "type", "veth", "peer", "name", "phy1")
        _run("nsenter", f"--net=/run/netns/{home}", "ethtool", "-K", "phy0", "tx", "off")
        for end in ("phy0", "phy1"):
            _run("ip", "-n", home, "link", "set", end, "up")
        switch.vsctl("add-port", "br-phy", "phy1")
    else:
        switch.vsctl("add-port", "br-phy", "eth0")
    _run("ip", "-n", home, "link", "set", "br-phy", "up")
    if how.translated:
        _translate(home, n, switch, how.kind)
    else:
        _run("ip", "-n", home, "addr", "add", f"10.0.0.{n}/24", "dev", "br-phy")


def _protect(home: str, switch: OpenVSwitch, mac: str, address: str) -> None:
    """The least that protects containers as netkit does: rules of the host, and at the port."""
    for side in ("-i", "-o"):
        _run("nsenter", f"--net=/run/netns/{home}", "--", "iptables", "-A", "FORWARD",
             side, "phy0", "-j", "ACCEPT")  # fmt: skip
    interface = ip_interface(address)
    _rules(home, str(interface.network), "br-int")
    _guard_port(switch, mac, str(interface.ip))
