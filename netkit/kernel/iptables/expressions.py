"""Rules of iptables as lists of nf_tables expressions that iptables-nft reads.  Pure.

    -s 127.0.0.0/8 -i br0 -p tcp -m tcp --dport 80 -j DROP -m comment --comment TEXT

    payload network 12+1, cmp  addresses     |  payload transport 2+2, cmp 80    matches, as given
    meta iifname, cmp "br0"    interfaces    |  counter, immediate drop
    meta l4proto, cmp tcp      protocol      |  user data: 0, its length, TEXT, a zero

Addresses, interfaces and the protocol stand in this order, as iptables 1.8.11 has them (1.8.9 has
interfaces first, and reads both): an address is compared with fewer instructions than the name of
an interface, and excludes more.  The comment is kept beside the rule, where nft has it, instead
of in an extension (`-m comment`) that the kernel calls for each packet that gets so far; iptables
prints, finds and deletes it all the same.  nft can load none that is longer than 128 bytes: such
a comment is written as the extension, behind all other matches.
Whether the installed iptables reads all this as the rule it would write is for `agreement` to
find out, and where it does not the tool writes the rules.  Only arguments that netkit's common
rules are made of are known here, and only in the form in which those have them.
Sources: linux/netfilter/nf_tables.h, linux/netfilter/xt_*.h, iptables/nft-ipv4.c,
libnftnl/udata.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from netkit.kernel.netlink.codec import attr, nest, string

LIST_ELEM, EXPR_NAME, EXPR_DATA = 1, 1, 2  # NFTA_LIST_ELEM, NFTA_EXPR_*
DATA_VALUE, DATA_VERDICT = 1, 2
REGISTER = 1  # NFT_REG_1
EQUAL, UNEQUAL = 0, 1  # NFT_CMP_EQ, NFT_CMP_NEQ
L4PROTO, IIFNAME, OIFNAME = 16, 6, 7  # NFT_META_*
NETWORK, TRANSPORT = 1, 2  # NFT_PAYLOAD_*_HEADER
SOURCE, DESTINATION = 12, 16  # offsets in an IPv4 header
PORTS = {"--sport": 0, "--dport": 2}  # offsets in a TCP or UDP header
PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17}
JUMP = -3
VERDICTS = {"ACCEPT": 1, "DROP": 0, "RETURN": -5}
LONGEST_NAME = 15  # of an interface: IFNAMSIZ less its zero
COMMENT = 256  # bytes: XT_MAX_COMMENT_LEN
BESIDE = 128  # bytes: NFTNL_UDATA_COMMENT_MAXLEN
COMMENT_TYPE = 0  # NFTNL_UDATA_RULE_COMMENT
STATES = {"ESTABLISHED": 1 << 1, "RELATED": 1 << 2, "DNAT": 1 << 7}  # XT_CONNTRACK_STATE_*
MATCH_STATE = 1  # XT_CONNTRACK_STATE
# xt_conntrack_mtinfo3: what its match flags and its mask of states stand behind, and its end
CONNTRACK = struct.Struct("=146xHHH16x")
ADDRTYPES = {"LOCAL": 1 << 2}  # XT_ADDRTYPE_LOCAL
ADDRTYPE = struct.Struct("=HHI")  # xt_addrtype_info_v1: of source, of destination, flags
MASQUERADE = struct.Struct("=I20x")  # nf_nat_ipv4_multi_range_compat with one empty range
DNAT = struct.Struct("=I4s12x4s12x2s2s2x6x")  # nf_nat_range2: flags, addresses, ports
MAP_ADDRESS, MAP_PORT = 1, 2  # NF_NAT_RANGE_*


class Unknown(ValueError):
    """There is no way here to write these arguments."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """A rule: its expressions one after the other, the protocol that `-p` names, or 0, and what
    is kept beside it."""

    data: bytes
    proto: int = 0
    user_data: bytes = b""


def encode(args: Sequence[str], comment: str) -> Expressions | None:
    """Return the rule with these arguments and this comment; None for what is not known here."""
    rule = _Rule()
    try:
        _read(rule, args)
        beside = _beside(comment)
        if not beside:
            rule.matches.append(_xtables("match", "comment", 0, _padded(comment)))
    except ValueError:  # Unknown, or no address or number where one should be
        return None
    if rule.target is None:
        return None
    parts = (rule.src, rule.dst, rule.iif, rule.oif, rule.protocol, *rule.matches)
    counter = _expression("counter", attr(1, bytes(8)), attr(2, bytes(8)))
    return Expressions(b"".join((*parts, counter, rule.target)), rule.proto, beside)


@dataclass(slots=True)
class _Rule:
    iif: bytes = b""
    oif: bytes = b""
    proto: int = 0
    protocol: bytes = b""
    src: bytes = b""
    dst: bytes = b""
    matches: list[bytes] = field(default_factory=list)
    target: bytes | None = None


def _read(rule: _Rule, args: Sequence[str]) -> None:
    words = iter(args)
    for word in words:
        how = UNEQUAL if word == "!" else EQUAL
        match next(words, "") if word == "!" else word:
            case "-i" if not rule.iif:
                rule.iif = _interface(IIFNAME, how, next(words, ""))
            case "-o" if not rule.oif:
                rule.oif = _interface(OIFNAME, how, next(words, ""))
            case "-s" if not rule.src:
                rule.src = _address(SOURCE, how, next(words, ""))
            case "-d" if not rule.dst:
                rule.dst = _address(DESTINATION, how, next(words, ""))
            case "-p" if how == EQUAL and not rule.proto:
                rule.proto = PROTOCOLS.get(next(words, ""), 0) or _unknown(args)
                rule.protocol = _meta(L4PROTO) + _compared(EQUAL, bytes([rule.proto]))
            case "-m" if how == EQUAL:
                rule.matches.append(_match(rule, next(words, ""), words))
            case "-j" if how == EQUAL and rule.target is None:
                rule.target = _target(next(words, ""), words)
            case _:
                raise Unknown(word)


def _unknown(what: object) -> int:
    raise Unknown(str(what))


def _interface(key: int, how: int, name: str) -> bytes:
    raw = name.encode()
    if not 0 < len(raw) <= LONGEST_NAME or name == "+":
        raise Unknown(name)
    # Any name that begins so is compared without the zero at the end.
    return _meta(key) + _compared(how, raw[:-1] if name.endswith("+") else raw + b"\0")


def _address(offset: int, how: int, text: str) -> bytes:
    address, _, length = text.partition("/")
    net = IPv4Network((address, int(length or "32")))
    size, rest = divmod(net.prefixlen, 8)
    if not net.prefixlen:
        raise Unknown(text)
    packed = net.network_address.packed
    if not rest:
        return _payload(NETWORK, offset, size) + _compared(how, packed[:size])
    masked = _expression(
        "bitwise", _number(1, REGISTER), _number(2, REGISTER), _number(3, 4), _number(6, 0),
        nest(4, attr(DATA_VALUE, net.netmask.packed)), nest(5, attr(DATA_VALUE, bytes(4))),
    )  # fmt: skip
    return _payload(NETWORK, offset, 4) + masked + _compared(how, packed)


def _match(rule: _Rule, name: str, words: Iterator[str]) -> bytes:
    option, value = next(words, ""), next(words, "")
    match name, option:
        case "tcp" | "udp", "--sport" | "--dport" if rule.proto == PROTOCOLS[name]:
            return _payload(TRANSPORT, PORTS[option], 2) + _ports(value)
        case "conntrack", "--ctstate":
            mask = sum({STATES.get(s, 0) or _unknown(s) for s in value.split(",")})
            return _xtables("match", name, 3, CONNTRACK.pack(MATCH_STATE, 0, mask))
        case "addrtype", "--src-type":
            kind = ADDRTYPES.get(value, 0) or _unknown(value)
            return _xtables("match", name, 1, ADDRTYPE.pack(kind, 0, 0))
        case "addrtype", "--dst-type":
            kind = ADDRTYPES.get(value, 0) or _unknown(value)
            return _xtables("match", name, 1, ADDRTYPE.pack(0, kind, 0))
    raise Unknown(name)


def _ports(text: str) -> bytes:
    """Compare with `80`, or with the range `80:89`."""
    first, colon, last = text.partition(":")
    if not colon:
        return _compared(EQUAL, _port(first))
    low, high = _port(first), _port(last)
    if low >= high:
        raise Unknown(text)
    return _expression(
        "range", _number(1, REGISTER), _number(2, EQUAL),
        nest(3, attr(DATA_VALUE, low)), nest(4, attr(DATA_VALUE, high)),
    )  # fmt: skip


def _port(text: str) -> bytes:
    if not 0 < int(text) < 1 << 16 or str(int(text)) != text:
        raise Unknown(text)
    return int(text).to_bytes(2, "big")


def _target(name: str, words: Iterator[str]) -> bytes:
    if name in VERDICTS:
        return _verdict(VERDICTS[name])
    if name == "MASQUERADE":
        return _xtables("target", name, 0, MASQUERADE.pack(1))
    if name == "DNAT":
        if next(words, "") != "--to-destination":
            raise Unknown(name)
        return _xtables("target", name, 2, _destination(next(words, "")))
    if not name:
        raise Unknown(name)
    # To a chain.  Where it is an extension the kernel has no such chain, and the tool is asked.
    return _verdict(JUMP, string(2, name))


def _destination(text: str) -> bytes:
    address, colon, port = text.partition(":")
    packed = IPv4Address(address).packed
    to = _port(port) if colon else bytes(2)
    return DNAT.pack(MAP_ADDRESS | (MAP_PORT if colon else 0), packed, packed, to, to)


def _verdict(code: int, *chain: bytes) -> bytes:
    verdict = nest(DATA_VERDICT, attr(1, struct.pack(">i", code)), *chain)
    return _expression("immediate", _number(1, 0), nest(2, verdict))


def _beside(comment: str) -> bytes:
    """The user data of a rule with this comment; none for one that is too long."""
    raw = comment.encode()
    if len(raw) > BESIDE:
        return b""
    return bytes([COMMENT_TYPE, len(raw) + 1]) + raw + b"\0"


def _padded(comment: str) -> bytes:
    raw = comment.encode()
    if len(raw) >= COMMENT:
        raise Unknown(comment)
    return raw.ljust(COMMENT, b"\0")


def _meta(key: int) -> bytes:
    return _expression("meta", _number(2, key), _number(1, REGISTER))


def _payload(base: int, offset: int, size: int) -> bytes:
    return _expression(
        "payload", _number(1, REGISTER), _number(2, base), _number(3, offset), _number(4, size)
    )


def _compared(how: int, data: bytes) -> bytes:
    return _expression(
        "cmp", _number(1, REGISTER), _number(2, how), nest(3, attr(DATA_VALUE, data))
    )


def _xtables(kind: str, name: str, revision: int, info: bytes) -> bytes:
    """An extension of iptables: `match` or `target`."""
    return _expression(kind, string(1, name), _number(2, revision), attr(3, info))


def _expression(name: str, *data: bytes) -> bytes:
    return nest(LIST_ELEM, string(EXPR_NAME, name), nest(EXPR_DATA, *data))


def _number(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


__all__ = ["Expressions", "encode"]
