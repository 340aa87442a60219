"""Commands that set up a node's network, as values of a host.  Pure.

The host of a lab has the machine's files, and its commands run as root: so no command of a file is
carried over as it stands.  What is understood is kept as addresses, routes and settings, or written
anew from its values; of anything else the reason is returned.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from netkit.lab.foreign.draft import Wired

MAX_ADDRESSES = 250  # of a host
MAX_LINE = 4096  # characters of a command
UNKNOWN = "only commands that set addresses, routes, links and settings are carried over"
NO_IPV6 = "IPv6 is off in labs"
_SHELL = re.compile(r"[|&;<>$`(){}*?~]")
_PROC = re.compile(r"echo\s+\"?(-?\d+)\"?\s*>\s*/proc/sys/(net/[\w./-]+)", re.ASCII)
_CONF = re.compile(
    r"net\.ipv4\.(ip_forward|ip_default_ttl|fib_multipath_hash_policy|icmp_echo_ignore_all"
    r"|icmp_echo_ignore_broadcasts|conf\.(all|default|[a-z][a-z0-9]{0,14})\.(rp_filter|forwarding"
    r"|proxy_arp|accept_redirects|send_redirects|secure_redirects|accept_source_route"
    r"|arp_ignore|arp_announce|arp_filter|accept_local|log_martians))"
)
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")
_OBJECTS = {"address": "a", "link": "l", "route": "r"}


class NotCarried(Exception):
    """Why a command is not carried over."""


def commands(line: str) -> Iterator[str]:
    """The commands of a line: of `sh -c '...'` those within, of `a && b; c` each."""
    inner = _within(line) or line
    for part in re.split(r"&&|;|\n", inner):
        if part.strip():
            yield part.strip()


def _within(line: str) -> str:
    if len(line) > MAX_LINE:
        return ""
    try:
        words = shlex.split(line)
    except ValueError:
        return ""
    shells = {"sh", "bash", "ash", "/bin/sh", "/bin/bash", "/bin/ash"}
    plain = len(words) == 3 and words[0] in shells and words[1] in {"-c", "-ec", "-lc"}
    return words[2] if plain else ""


def carry(host: Wired, line: str, place: str) -> str:
    """Take one command over to the host; "", or why it cannot be."""
    try:
        _carry(host, line, place)
    except NotCarried as why:
        return str(why)
    except ValueError as bad:
        return str(bad)
    return ""


def _carry(host: Wired, line: str, place: str) -> None:
    if len(line) > MAX_LINE:
        raise NotCarried(f"has more than {MAX_LINE} characters")
    if found := _PROC.fullmatch(line):
        return setting(host, found[2].replace("/", "."), found[1])
    if _SHELL.search(line):
        raise NotCarried(UNKNOWN)
    words = shlex.split(line, comments=True)
    match words:
        case []:
            return None
        case ["ip" | "/sbin/ip" | "/usr/sbin/ip", *rest]:
            return _ip(host, rest, place)
        case ["ifconfig" | "/sbin/ifconfig", device, *rest] if rest:
            return _ifconfig(host, device, rest)
        case ["route" | "/sbin/route", "add", *rest]:
            return _route_add(host, rest, place)
        case ["sysctl" | "/sbin/sysctl", *rest]:
            return _sysctl(host, rest)
    raise NotCarried(UNKNOWN)


def _ip(host: Wired, words: Sequence[str], place: str) -> None:
    words = list(words)
    while words and words[0] in {"-4", "-f", "inet"}:
        words.pop(0)
    if words[:1] == ["-6"]:
        raise NotCarried(NO_IPV6)
    if len(words) < 3:
        raise NotCarried(UNKNOWN)
    kind = next((long for long, least in _OBJECTS.items() if long.startswith(words[0])
                 and words[0].startswith(least)), "addr" if words[0] == "addr" else "")  # fmt: skip
    verb = words[1]
    if kind in {"address", "addr"} and verb in {"a", "add", "replace"}:
        return _address(host, words[2:])
    if kind == "link" and verb in {"s", "set"}:
        return _link(host, words[2:])
    if kind == "route" and verb in {"a", "add", "replace"}:
        return _route(host, words[2:], place)
    if kind == "route" and verb in {"d", "del", "delete"}:
        raise NotCarried("a host here has only the routes that are given")
    raise NotCarried(UNKNOWN)


def _options(
    words: Sequence[str], known: Sequence[str], flags: Sequence[str] = ()
) -> dict[str, str]:
    """Words that have a value, flags, and the one that is neither, as ""."""
    out: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in flags:
            out[word] = ""
        elif word in known and rest:
            out[word] = rest.pop(0)
        elif "" not in out:
            out[""] = word
        else:
            raise NotCarried(f"{word!r} is not understood")
    return out


def _address(host: Wired, words: Sequence[str]) -> None:
    given = _options(words, ["dev", "brd", "broadcast", "scope", "label"])
    text = given.get("local", given.get("", ""))
    if ":" in text:
        raise NotCarried(NO_IPV6)
    add_address(host, given.get("dev", ""), text)


def add_address(host: Wired, device: str, text: str) -> None:
    """The first one of an interface is its address, more are commands.  NotCarried, ValueError."""
    address = IPv4Interface(text)
    if address.ip.is_multicast or address.ip.is_unspecified or int(address.ip) >> 24 in {0, 255}:
        raise NotCarried(f"{address.ip} is no address of a host")
    if device == "lo" and len(host.subnets) < MAX_ADDRESSES:
        host.setup.append(f"ip addr add {address} dev lo")
    elif device not in host.interfaces:
        raise NotCarried(f"{host.name} has no interface {device!r} here")
    elif "address" not in host.interfaces[device]:
        host.interfaces[device]["address"] = str(address)
        return
    elif len(host.subnets) >= MAX_ADDRESSES:
        raise NotCarried(f"{host.name} has more than {MAX_ADDRESSES} addresses")
    elif host.interfaces[device]["address"] != str(address):
        host.setup.append(f"ip addr add {address} dev {device}")
    host.subnets.append(address.network)


def _link(host: Wired, words: Sequence[str]) -> None:
    given = _options(words, ["dev", "mtu", "address"], ["up", "down"])
    device = given.get("dev", given.get("", ""))
    if device == "lo" and given.keys() <= {"dev", "", "up"}:
        return  # it is
    _known(host, device)
    if "mtu" in given:
        _mtu(host, device, given["mtu"])
    if "address" in given:
        _hardware(host, device, given["address"])
    if "down" in given:
        host.setup.append(f"ip link set {device} down")


def _known(host: Wired, device: str) -> None:
    if device not in host.interfaces:
        raise NotCarried(f"{host.name} has no interface {device!r} here")


def _mtu(host: Wired, device: str, text: str) -> None:
    if not (text.isdecimal() and 68 <= int(text[:6]) <= 65535):
        raise NotCarried(f"{text!r} is no MTU")
    host.setup.append(f"ip link set {device} mtu {int(text)}")


def _hardware(host: Wired, device: str, text: str) -> None:
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1:
        raise NotCarried(f"{text!r} is no hardware address")
    host.interfaces[device]["mac"] = text.lower()


def _route(host: Wired, words: Sequence[str], place: str) -> None:
    if any(":" in word for word in words):
        raise NotCarried(NO_IPV6)
    given = _options(words, ["via", "dev"])
    if "via" not in given:
        raise NotCarried("a route needs a gateway here: via")
    if "dev" in given:
        _known(host, given["dev"])
    add_route(host, given.get("", ""), given["via"], place)


def add_route(host: Wired, to: str, via: str, place: str) -> None:
    network = IPv4Network("0.0.0.0/0" if to == "default" else to)
    if network in host.routes:
        raise NotCarried(f"{host.name} has a route to {to} already")
    host.routes[network] = IPv4Address(via), place


def _ifconfig(host: Wired, device: str, words: Sequence[str]) -> None:
    if "add" in words or "inet6" in words:
        raise NotCarried(NO_IPV6)
    given = _options(
        [w for w in words if w not in {"inet", "ether"}],
        ["netmask", "broadcast", "mtu", "hw"], ["up", "down"],
    )  # fmt: skip
    if device == "lo" and given.keys() <= {"up"}:
        return
    if device != "lo":
        _known(host, device)
    if "" in given:
        add_address(host, device, _with_prefix(given[""], given.get("netmask", "")))
    if "mtu" in given:
        _mtu(host, device, given["mtu"])
    if "hw" in given:
        _hardware(host, device, given["hw"])
    if "down" in given:
        host.setup.append(f"ip link set {device} down")


def _with_prefix(address: str, mask: str) -> str:
    """By the class of the address where there is no mask, as ifconfig does (RFC 791)."""
    if "/" in address:
        return address
    first = int(IPv4Address(address)) >> 24
    return f"{address}/{mask or (8 if first < 128 else 16 if first < 192 else 24)}"


def _route_add(host: Wired, words: Sequence[str], place: str) -> None:
    given = _options(words, ["gw", "netmask", "dev", "-net", "-host"])
    to = given.get("-net") or given.get("-host") or given.get("", "")
    if "gw" not in given:
        raise NotCarried("a route needs a gateway here: gw")
    if to != "default" and "-net" in given and "/" not in to:
        to = f"{to}/{given.get('netmask', '')}" if "netmask" in given else _with_prefix(to, "")
    add_route(host, "default" if to == "0.0.0.0/0" else to, given["gw"], place)


def _sysctl(host: Wired, words: Sequence[str]) -> None:
    pairs = [w for w in words if w not in {"-w", "-q", "-e"}]
    if not pairs or any("=" not in pair for pair in pairs):
        raise NotCarried(UNKNOWN)
    for pair in pairs:
        name, _, value = pair.partition("=")
        setting(host, name.replace("/", "."), value)


def setting(host: Wired, name: str, value: str) -> None:
    """A kernel setting of the host's namespace.  NotCarried for any but those of IPv4's."""
    if name.startswith("net.ipv6."):
        raise NotCarried(NO_IPV6)
    found = _CONF.fullmatch(name)
    if not found or not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise NotCarried(f"{name} = {value} is no setting that is carried over")
    if found[2] and found[2] not in {"all", "default", *host.interfaces}:
        raise NotCarried(f"{host.name} has no interface {found[2]!r} here")
    if found[2] in host.interfaces:  # once it is there
        host.setup.append(f"sysctl -qw {name}={value}")
    else:
        host.sysctls[name] = int(value)
