"""Read single tables, chains, sets and elements of nf_tables, without listing the others.

An element is asked for by its key: 10 us, however many there are.  Numbers:
linux/netfilter/nf_tables.h.  What is not as netkit makes it is left out or returned as it is.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat
from netkit.kernel.iptables.nft_compat import AF_BRIDGE, HEADER, SUBSYSTEM
from netkit.kernel.netlink.codec import (
    ATTR,
    TYPE_MASK,
    Netlink,
    Request,
    attr,
    attributes,
    nest,
    string,
)
from netkit.kernel.nftables.values import Span, pack, types_of, unpack
from netkit.model import Key
from netkit.model.nftables import CATCH_ALL, Hook, NftChain, NftElement, NftSet, NftTable, family_of

GETTABLE, GETCHAIN, GETSET, GETSETELEM = (SUBSYSTEM | n for n in (1, 4, 10, 13))
FAMILIES = {"ip": socket.AF_INET, "bridge": AF_BRIDGE}  # of tables of ours
NAMES = {number: name for name, number in FAMILIES.items()}
TABLE_NAME, TABLE_USERDATA = 1, 6
RULE_TABLE, RULE_CHAIN, RULE_USERDATA = 1, 2, 7
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE, CHAIN_USERDATA = 1, 3, 4, 5, 7, 12
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
SET_TABLE, SET_NAME, SET_FLAGS, SET_KEY_TYPE, SET_DATA_TYPE, SET_USERDATA = 1, 2, 3, 4, 6, 13
SET_ANONYMOUS, SET_INTERVAL, SET_MAP = 0x1, 0x4, 0x8
DATA_VERDICT = 0xFFFFFF00
LIST_TABLE, LIST_SET, LIST_ELEMENTS, LIST_ELEM = 1, 2, 3, 1
ELEM_KEY, ELEM_DATA, ELEM_USERDATA, ELEM_KEY_END = 1, 2, 6, 10
DATA_VALUE, DATA_VERDICT_NEST = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
VERDICTS = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
POLICIES = {0: "drop", 1: "accept"}
OWNER = re.compile(rb"(netkit:[^\s\0\"]+)\0")  # a comment that is an owner and no more
DUMP_FROM = 4000  # elements asked for of one set, from which reading all of it may be cheaper

# EINVAL: the key cannot be in a set of that type, which then is not the set we think
MISSING = frozenset({errno.ENOENT, errno.ENODEV, errno.EINVAL})


def frame(netlink: Netlink, keys: Sequence[Key]) -> list[NftTable | NftChain | NftSet]:
    """Return those tables, chains and sets that exist."""
    requests = [_asked(key) for key in keys]
    out: list[NftTable | NftChain | NftSet] = []
    for key, reply in zip(keys, netlink.run(requests), strict=True):
        if reply.errno in MISSING:
            continue
        reply.check(f"read {key[0].replace('-', ' ')} {' '.join(key[1:])}")
        for message in reply.messages:
            match key[0]:
                case "nft-table":
                    out.append(_table(message))
                case "nft-chain":
                    out.append(_chain(message))
                case _:
                    out.append(_set(message))
    return out


def _asked(key: Key) -> Request:
    match key:
        case ("nft-table", name):
            return Request(GETTABLE, _in(name, TABLE_NAME))
        case ("nft-chain", table, name):
            return Request(GETCHAIN, _in(table, CHAIN_TABLE) + string(CHAIN_NAME, name))
        case ("nft-set", table, name):
            return Request(GETSET, _in(table, SET_TABLE) + string(SET_NAME, name))
    raise KernelError(f"nf_tables has no {key[0].replace('-', ' ')} {' '.join(key[1:])}")


def tables(netlink: Netlink) -> list[NftTable]:
    """List tables; none where the kernel has no nf_tables."""
    try:
        found = netlink.dump(Request(GETTABLE, HEADER.pack(socket.AF_UNSPEC, 0, 0)))
    except KernelError as e:
        if e.errno in {errno.EINVAL, errno.EOPNOTSUPP}:
            return []
        raise
    return [_table(m) for m in found if m[0] in NAMES]


def chains(netlink: Netlink, table: str) -> list[NftChain]:
    found = map(_chain, netlink.dump(Request(GETCHAIN, _head(table))))
    return [c for c in found if c.table == table]


def sets(netlink: Netlink, table: str) -> list[NftSet]:
    """List named sets; not those that nft makes for `{ a, b }` in a rule."""
    found = netlink.dump(Request(GETSET, _in(table, SET_TABLE)))
    named = (m for m in found if not _number(attributes(m, 4), SET_FLAGS) & SET_ANONYMOUS)
    return [s for s in map(_set, named) if s.table == table]


def elements(
    netlink: Netlink, wanted: Mapping[NftSet, Sequence[tuple[str, ...]]]
) -> list[NftElement]:
    """Return those of `wanted` that exist in their set: by exactly that key, ranges included."""
    out: list[NftElement] = []
    asked: list[tuple[NftSet, Request]] = []
    for s, each in wanted.items():
        if len(each) >= DUMP_FROM or CATCH_ALL in each:
            out += all_elements(netlink, s)
        else:
            asked += ((s, request) for at in each if (request := _ask(s, at)) is not None)
    replies = netlink.run([request for _, request in asked])
    for (s, _), reply in zip(asked, replies, strict=True):
        if reply.errno in MISSING:
            continue
        reply.check(f"look into set {s.table} {s.name}")
        out += (e for m in reply.messages for e in _elements(s, m))
    keys = {s.key: set(each) for s, each in wanted.items()}
    return [e for e in out if e.key_fields in keys["nft-set", e.table, e.set]]


def all_elements(netlink: Netlink, s: NftSet) -> list[NftElement]:
    body = of_set(s.table, s.name)
    return [e for m in netlink.dump(Request(GETSETELEM, body)) for e in _elements(s, m)]


def comments(netlink: Netlink, table: str) -> list[tuple[str, str]]:
    """(chain, comment) of the rules of a table, as they stand; "" for one without."""
    body = _in(table, RULE_TABLE)
    out: list[tuple[str, str]] = []
    for message in netlink.dump(Request(nft_compat.GETRULE, body)):
        a = attributes(message, 4)
        if _full(message, a[RULE_TABLE]) == table:
            out.append((_name(a[RULE_CHAIN]), _comment(a.get(RULE_USERDATA, b""))))
    return out


def _comment(userdata: bytes) -> str:
    """The first of nftnl's types of user data, which has one byte of type and one of length."""
    if len(userdata) < 2 or userdata[0] != 0:
        return ""
    return _name(userdata[2 : 2 + userdata[1]])


def keys(netlink: Netlink, table: str, name: str) -> list[bytes]:
    """Keys of the elements of a set, as the kernel has them; [] if there is no such set."""
    out: list[bytes] = []
    for message in netlink.dump(Request(GETSETELEM, of_set(table, name))):
        for raw in _items(attributes(message, 4).get(LIST_ELEMENTS, b"")):
            key = attributes(raw).get(ELEM_KEY)
            out += [attributes(key)[DATA_VALUE]] if key else []
    return out


def element_list(table: str, name: str, keys: Sequence[bytes]) -> bytes:
    """The body of a request about the elements of a set with these keys."""
    each = [nest(LIST_ELEM, nest(ELEM_KEY, attr(DATA_VALUE, key))) for key in keys]
    return of_set(table, name) + nest(LIST_ELEMENTS, *each)


def of_set(table: str, name: str) -> bytes:
    """The beginning of a request about elements of a set."""
    return _in(table, LIST_TABLE) + string(LIST_SET, name)


def _ask(s: NftSet, at: tuple[str, ...]) -> Request | None:
    """None for what cannot be in a set of that type."""
    try:
        span = pack(s.fields, at)
    except KernelError:
        return None
    key = nest(ELEM_KEY, attr(DATA_VALUE, span.low))
    if s.ranges:
        key += nest(ELEM_KEY_END, attr(DATA_VALUE, span.high))
    asked = nest(LIST_ELEMENTS, nest(LIST_ELEM, key))
    return Request(GETSETELEM, of_set(s.table, s.name) + asked)


def _elements(s: NftSet, message: bytes) -> Iterator[NftElement]:
    for raw in _items(attributes(message, 4).get(LIST_ELEMENTS, b"")):
        a = attributes(raw)
        at: tuple[str, ...] = CATCH_ALL
        if ELEM_KEY in a:
            low = attributes(a[ELEM_KEY])[DATA_VALUE]
            high = attributes(a[ELEM_KEY_END])[DATA_VALUE] if ELEM_KEY_END in a else low
            at = unpack(s.fields, Span(low, high))
        yield NftElement(
            table=s.table,
            set=s.name,
            key_fields=at,
            value=_data(s, attributes(a[ELEM_DATA])) if ELEM_DATA in a else (),
            owner=_owner(a.get(ELEM_USERDATA)),
        )


def _data(s: NftSet, a: dict[int, bytes]) -> tuple[str, ...]:
    if DATA_VERDICT_NEST not in a:
        return unpack(s.data, Span(a[DATA_VALUE], a[DATA_VALUE]))
    verdict = attributes(a[DATA_VERDICT_NEST])
    (code,) = struct.unpack(">i", verdict[VERDICT_CODE])
    word = VERDICTS.get(code, str(code))
    return (word, _name(verdict[VERDICT_CHAIN])) if VERDICT_CHAIN in verdict else (word,)


def _table(message: bytes) -> NftTable:
    a = attributes(message, 4)
    return NftTable(name=_full(message, a[TABLE_NAME]), owner=_owner(a.get(TABLE_USERDATA)))


def _chain(message: bytes) -> NftChain:
    a = attributes(message, 4)
    chain = NftChain(
        table=_full(message, a[CHAIN_TABLE]),
        name=_name(a[CHAIN_NAME]),
        owner=_owner(a.get(CHAIN_USERDATA)),
    )
    hook = attributes(a.get(CHAIN_HOOK, b""))
    if not hook or _number(hook, HOOK_NUMBER) >= len(HOOKS):  # ingress: of another tool
        return chain
    (priority,) = struct.unpack(">i", hook[HOOK_PRIORITY])
    return NftChain(
        table=chain.table,
        name=chain.name,
        owner=chain.owner,
        hook=Hook(
            kind=_name(a[CHAIN_TYPE]),  # type: ignore[arg-type]  # the kernel knows no other
            point=HOOKS[_number(hook, HOOK_NUMBER)],  # type: ignore[arg-type]
            priority=priority,
        ),
        default=POLICIES[_number(a, CHAIN_POLICY)],  # type: ignore[arg-type]
    )


def _set(message: bytes) -> NftSet:
    a = attributes(message, 4)
    data: tuple[str, ...] = ()
    if _number(a, SET_FLAGS) & SET_MAP:
        kind = _number(a, SET_DATA_TYPE)
        data = ("verdict",) if kind == DATA_VERDICT else types_of(kind)
    return NftSet(
        table=_full(message, a[SET_TABLE]),
        name=_name(a[SET_NAME]),
        fields=types_of(_number(a, SET_KEY_TYPE)),
        data=data,
        ranges=bool(_number(a, SET_FLAGS) & SET_INTERVAL),
        owner=_owner(a.get(SET_USERDATA)),
    )


def _head(table: str) -> bytes:
    return HEADER.pack(FAMILIES[family_of(table)[0]], 0, 0)


def _in(table: str, attribute: int) -> bytes:
    """The beginning of a request about one table."""
    return _head(table) + string(attribute, family_of(table)[1])


def _full(message: bytes, name: bytes) -> str:
    """A table's name with its family, as in netkit.model.nftables."""
    family = NAMES.get(message[0], str(message[0]))
    return _name(name) if family == "ip" else f"{family} {_name(name)}"


def _items(data: bytes) -> Iterator[bytes]:
    """Payloads of the attributes of a list, all of one type."""
    at = 0
    while at + 4 <= len(data):
        length, kind = cast(tuple[int, int], ATTR.unpack_from(data, at))
        if length < 4:
            raise KernelError(f"nf_tables: an attribute of type {kind & TYPE_MASK} is cut short")
        yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def _owner(userdata: bytes | None) -> str | None:
    found = OWNER.search(userdata or b"")
    return found[1].decode() if found else None


def _number(a: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(a.get(kind, b""), "big")


def _name(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
