"""Parse the conditions of iptables rules: which field must have which values.  Pure.

Source: iptables(8), iptables-extensions(8), in the spelling of iptables-save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network

from netkit.diagnose.explain.packet import Span
from netkit.diagnose.explain.ruleset import PROTOCOLS, Key, mac_number

FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ALL": 63, "NONE": 0}
ICMP = {"echo-reply": 0, "destination-unreachable": 3, "redirect": 5, "echo-request": 8}
OTHERS = {"igmp": 2, "gre": 47, "esp": 50, "ah": 51, "udplite": 136}  # not in any question
SERVICES = {"domain": 53, "http": 80, "https": 443}
Members = Mapping[str, tuple[IPv4Network, ...]]  # of address sets, by name
Read = tuple[tuple[str, ...], tuple[tuple[Key, ...], ...]]  # fields, and keys that fit them


def _network(name: str) -> Callable[[str], Read | None]:
    return lambda text: ((name,), tuple((of_network(IPv4Network(n)),) for n in text.split(",")))


def of_network(net: IPv4Network) -> Span:
    return int(net[0]), int(net[-1])


def _interface(name: str) -> Callable[[str], Read | None]:
    return lambda text: ((name,), ((text,),))


def _ports(name: str) -> Callable[[str], Read | None]:
    return lambda text: ((name,), tuple((span(p),) for p in text.split(",")))


def _addresses(name: str) -> Callable[[str], Read | None]:
    def read(text: str) -> Read:
        low, _, high = text.partition("-")
        return ((name,), (((int(IPv4Address(low)), int(IPv4Address(high or low))),),))

    return read


def _words(name: str) -> Callable[[str], Read | None]:
    return lambda text: ((name,), ((frozenset(text.lower().split(",")),),))


def _protocol(text: str) -> Read:
    if text in {"all", "0"}:
        return (("proto",), (((0, 255),),))
    known = PROTOCOLS | OTHERS
    number = known[text] if text in known else int(text)
    return (("proto",), (((number, number),),))


def _mac(text: str) -> Read:
    return (("mac",), (((mac_number(text),) * 2,),))


def _mark(text: str) -> Read:
    value, _, mask = text.partition("/")
    return ((f"mark/{int(mask or '0xffffffff', 0):x}",), (((int(value, 0),) * 2,),))


def _flags(text: str) -> Read:
    mask, wanted = (sum(FLAGS[f] for f in part.split(",")) for part in text.split())
    return ((f"tcp flags/{mask:x}",), (((wanted, wanted),),))


def _icmp(text: str) -> Read:
    number = ICMP[text] if text in ICMP else int(text)
    return (("icmp type",), (((number, number),),))


def of_set(text: str, sets: Members) -> Read | None:
    name, direction = text.split(" ")
    if name not in sets or direction not in {"src", "dst"}:
        return None
    return ((direction,), tuple((of_network(n),) for n in sets[name]))


OPTIONS: Mapping[str, Callable[[str], Read | None]] = {
    "-s": _network("src"),
    "-d": _network("dst"),
    "-i": _interface("iif"),
    "-o": _interface("oif"),
    "-p": _protocol,
    "--sport": _ports("sport"),
    "--dport": _ports("dport"),
    "--sports": _ports("sport"),
    "--dports": _ports("dport"),
    "--tcp-flags": _flags,
    "--icmp-type": _icmp,
    "--ctstate": _words("ct"),
    "--state": _words("ct"),
    "--ctstatus": lambda _: None,
    "--ctdir": _words("ct direction"),
    "--ctorigsrc": _network("original src"),
    "--ctorigdst": _network("original dst"),
    "--ctorigsrcport": _ports("original sport"),
    "--ctorigdstport": _ports("original dport"),
    "--ctproto": _protocol,
    "--src-type": _words("src type"),
    "--dst-type": _words("dst type"),
    "--src-range": _addresses("src"),
    "--dst-range": _addresses("dst"),
    "--mac-source": _mac,
    "--mark": _mark,
    "--physdev-in": _interface("physin"),
    "--match-set": lambda _: None,
}


def span(text: str, separator: str = ":") -> Span:
    low, _, high = text.partition(separator)
    first = SERVICES[low] if low in SERVICES else int(low or 0)
    if not _:
        return first, first
    return first, int(high or 65535)
