"""Encode flows as OpenFlow messages, from the text that ovs-ofctl reads.

    bundle control   header 8 | bundle 4 | type 2 | flags 2
    bundle add       header 8 | bundle 4 | pad 2 | flags 2 | flow mod, as a message of its own
    flow mod         header 8 | cookie 8 | mask 8 | table 1 | command 1 | timeouts 4 | priority 2 |
                     buffer 4 | out port 4 | out group 4 | flags 2 | importance 2 | match |
                     instructions
    match            type 2 | length 2 | fields (OXM: header 4, value, mask) | padding to 8

Only the words that flows of one endpoint, and the general flows of a bridge, are made of: for
others `Unknown` is raised, and ovs-ofctl does it.  Sources: OpenFlow Switch Specification 1.4.0,
A.2.3, A.3.4.1, A.3.9; nicira-ext.h of Open vSwitch, NXAST_RESUBMIT_TABLE; ovs-fields(7).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, ip_network

from netkit.kernel.ovs.openflow import ALL_TABLES, ANY, IN_PORT, VERSION

FLOW_MOD, BUNDLE_CONTROL, BUNDLE_ADD = 14, 33, 34
ADD, DELETE = 0, 3
OPEN, COMMIT = 0, 4
ATOMIC_ORDERED = 3
DEFAULT_PRIORITY = 0x8000
NO_BUFFER = 0xFFFFFFFF
LOCAL, NORMAL, BACK = 0xFFFFFFFE, 0xFFFFFFFA, 0xFFFFFFF8  # reserved ports; OFPP_IN_PORT
NICIRA, RESUBMIT_TABLE = 0x2320, 14

_HEADER = struct.Struct("!BBHI")
_CONTROL = struct.Struct("!IHH")
_ADDED = struct.Struct("!IxxH")
_FLOW_MOD = struct.Struct("!QQBBHHHIIIHH")
_OUTPUT = struct.Struct("!HHIH6x")
_RESUBMIT = struct.Struct("!HHIHHB3x")
_ETHER = {"ip": 0x0800, "arp": 0x0806, "tcp": 0x0800, "udp": 0x0800, "sctp": 0x0800, "icmp": 0x0800}
_PROTO = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}
_TP_DST = {"tcp": 14, "udp": 16, "sctp": 18}
_ETH_DST, _ETH_SRC, _ETH_TYPE, _IP_PROTO, _IPV4_SRC, _IPV4_DST = 3, 4, 5, 10, 11, 12
_ARP_OP, _ARP_SPA, _ARP_TPA, _ARP_SHA = 21, 22, 23, 24
_REG0 = 0x00010004

Numbers = Mapping[str, int]  # of the bridge's ports in OpenFlow, by name


class Unknown(Exception):
    """A word that is not encoded here, or a port without a number."""


def message(kind: int, xid: int, body: bytes) -> bytes:
    return _HEADER.pack(VERSION, kind, _HEADER.size + len(body), xid) + body


def control(kind: int, bundle: int, xid: int) -> bytes:
    """`kind`: OPEN or COMMIT."""
    return message(BUNDLE_CONTROL, xid, _CONTROL.pack(bundle, kind, ATOMIC_ORDERED))


def added(bundle: int, xid: int, flow_mod: bytes) -> bytes:
    """Add the body of a flow mod to a bundle."""
    inner = message(FLOW_MOD, xid, flow_mod)
    return message(BUNDLE_ADD, xid, _ADDED.pack(bundle, ATOMIC_ORDERED) + inner)


def deletion(cookie: int, mask: int) -> bytes:
    """Of all flows whose cookie is `cookie` under `mask`."""
    return _flow_mod(cookie, mask, ALL_TABLES, DELETE, 0, b"", b"")


def addition(cookie: int, flow: str, numbers: Numbers) -> bytes:
    """Of one flow, such as "table=1,priority=10,dl_dst=02:42:ac:11:00:02,actions=output:p1"."""
    match, found, actions = flow.partition("actions=")
    if not found:
        raise Unknown(flow)
    words = dict(_word(w) for w in match.rstrip(",").split(",") if w)
    try:
        table = int(words.pop("table", "0"))
        priority = int(words.pop("priority", str(DEFAULT_PRIORITY)))
        fields = b"".join(_fields(words, numbers))
        steps = b"".join(_action(a, numbers) for a in _actions(actions))
    except (ValueError, KeyError) as error:
        raise Unknown(flow) from error
    if words:
        raise Unknown(flow)
    done = struct.pack("!HH4x", 4, 8 + len(steps)) + steps if steps else b""
    return _flow_mod(cookie, 0, table, ADD, priority, fields, done)


def _flow_mod(
    cookie: int, mask: int, table: int, command: int, priority: int, fields: bytes, done: bytes
) -> bytes:
    head = _FLOW_MOD.pack(cookie, mask, table, command, 0, 0, priority, NO_BUFFER, ANY, ANY, 0, 0)
    match = struct.pack("!HH", 1, 4 + len(fields)) + fields
    return head + match + bytes(-len(match) % 8) + done


def _word(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _actions(text: str) -> list[str]:
    """Split at commas outside of parentheses; "drop" is no action."""
    if text == "drop":
        return []
    return text.replace("resubmit(,", "resubmit(;").split(",")


def _fields(words: dict[str, str], numbers: Numbers) -> Iterator[bytes]:
    """Take the fields of a match out of `words`; what a field presupposes comes before it."""
    if (port := words.pop("in_port", None)) is not None:
        yield struct.pack("!II", IN_PORT, _port(port, numbers))
    if (value := words.pop("reg0", None)) is not None:
        yield struct.pack("!II", _REG0, int(value, 0))
    yield from _field(words, "dl_dst", _ETH_DST, _mac)
    yield from _field(words, "dl_src", _ETH_SRC, _mac)
    kinds = [w for w in words if w in _ETHER and not words[w]]
    if not kinds:
        return
    (kind,) = kinds
    del words[kind]
    yield _oxm(_ETH_TYPE, struct.pack("!H", _ETHER[kind]))
    if kind == "arp":
        yield from _field(words, "arp_op", _ARP_OP, lambda v: (struct.pack("!H", int(v)), b""))
        yield from _field(words, "arp_spa", _ARP_SPA, _network)
        yield from _field(words, "arp_tpa", _ARP_TPA, _network)
        yield from _field(words, "arp_sha", _ARP_SHA, _mac)
        return
    if kind in _PROTO:
        yield _oxm(_IP_PROTO, bytes([_PROTO[kind]]))
    yield from _field(words, "nw_src", _IPV4_SRC, _network)
    yield from _field(words, "nw_dst", _IPV4_DST, _network)
    if kind in _TP_DST:
        yield from _field(words, "tp_dst", _TP_DST[kind], _masked_port)


Value = Callable[[str], tuple[bytes, bytes]]  # of a text: value, and mask or b""


def _field(words: dict[str, str], name: str, number: int, value: Value) -> Iterator[bytes]:
    if (text := words.pop(name, None)) is not None:
        yield _oxm(number, *value(text))


def _oxm(field: int, value: bytes, mask: bytes = b"") -> bytes:
    size = len(value) + len(mask)
    return struct.pack("!HBB", 0x8000, field << 1 | bool(mask), size) + value + mask


def _mac(text: str) -> tuple[bytes, bytes]:
    raw = bytes.fromhex(text.replace(":", ""))
    if len(raw) != 6:
        raise ValueError(text)
    return raw, b""


def _network(text: str) -> tuple[bytes, bytes]:
    if "/" not in text:
        return IPv4Address(text).packed, b""
    net = ip_network(text)
    return net.network_address.packed, b"" if net.prefixlen == 32 else net.netmask.packed


def _masked_port(text: str) -> tuple[bytes, bytes]:
    value, _, mask = text.partition("/")
    bits = int(mask or "0xffff", 0)
    return struct.pack("!H", int(value, 0)), b"" if bits == 0xFFFF else struct.pack("!H", bits)


def _port(name: str, numbers: Numbers) -> int:
    return LOCAL if name == "LOCAL" else numbers[name]


def _action(text: str, numbers: Numbers) -> bytes:
    name, _, value = text.partition(":")
    match name:
        case "NORMAL" | "LOCAL" | "IN_PORT":
            return _output({"NORMAL": NORMAL, "LOCAL": LOCAL, "IN_PORT": BACK}[name])
        case "output":
            return _output(_port(value, numbers))
        case _ if text.startswith("resubmit(;") and text.endswith(")"):
            table = int(text[len("resubmit(;") : -1])
            here = BACK & 0xFFFF
            return _RESUBMIT.pack(0xFFFF, _RESUBMIT.size, NICIRA, RESUBMIT_TABLE, here, table)
    raise Unknown(text)


def _output(port: int) -> bytes:
    return _OUTPUT.pack(0, _OUTPUT.size, port, 0)


__all__ = ["COMMIT", "OPEN", "Unknown", "added", "addition", "control", "deletion", "message"]
