"""Find, delete and add rules that iptables-nft keeps in nf_tables, without parsing them.

A rule is one message; ours is known by its comment, wherever in the message it is: in an extension
that iptables wrote, or in user data (`expressions`).  Listing a chain costs 1 us a rule,
`iptables-nft-save` 10.
Numbers: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from socket import AF_INET, AF_INET6, htons
from sys import intern

from netkit.kernel import run
from netkit.kernel.iptables.expressions import Expressions
from netkit.kernel.netlink.codec import (
    CREATE,
    REPLACE,
    Netlink,
    Reply,
    Request,
    attr,
    attributes,
    nest,
    string,
    text_of,
)

NETLINK_NETFILTER = 12
SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
SUBSYSTEM_NUMBER = htons(10)
GETCHAIN, NEWRULE, GETRULE, DELRULE, GETGEN = (SUBSYSTEM | n for n in (4, 6, 7, 8, 16))
BATCH_BEGIN, BATCH_END, BATCH_GENID = 16, 17, 1
CHAIN_TABLE, CHAIN_NAME = 1, 3
RULE_TABLE, RULE_CHAIN, RULE_HANDLE, RULE_EXPRESSIONS, RULE_COMPAT, RULE_POSITION = range(1, 7)
RULE_USER_DATA = 7
COMPAT_PROTO, COMPAT_FLAGS = 1, 2
APPEND = 0x800  # NLM_F_APPEND
GEN_ID = 1
AF_BRIDGE = 7
FAMILIES = {4: AF_INET, 6: AF_INET6, AF_BRIDGE: AF_BRIDGE}
HEADER = struct.Struct("=BBH")  # nfgenmsg: family, version, resource
COMMENT = r"(netkit:[^\s\0\"]+) ([0-9a-f]{16})(?: (-?\d+))?(?: \([^\0\"]*\))?(?=[\0\"])"
IN_BYTES = re.compile(COMMENT.encode())
REMEMBERED = 16_384  # rules, of some 500 bytes each
_remembered: dict[bytes, RawRule] = {}  # by a digest: messages are several times as large
_remembering = threading.Lock()

# NFTA_EXPR_NAME of what nft writes in place of an extension
NATIVE = re.compile(rb"[\x07-\x09]\0\x01\0(?:ct|fib|masq|nat)\0", re.DOTALL)
# NFTA_VERDICT_CODE jump (-3) or goto (-4), then NFTA_VERDICT_CHAIN
VERDICT = re.compile(rb"\x08\x00\x01\x00\xff\xff\xff[\xfc\xfd]..\x02\x00([^\0]+)\0", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RawRule:
    table: str
    chain: str
    target: str | None  # the chain it jumps or goes to
    handle: int
    comment: bytes  # of ours, with a zero; b"" of others
    native: bool = False  # in expressions that iptables 1.8.9 cannot list


def generation(netlink: Netlink) -> int:
    """Return a number that changes with every change of the ruleset of a namespace."""
    reply = netlink.get([Request(GETGEN, HEADER.pack(0, 0, 0))])[0]
    reply.check("read the generation of the nf_tables rules")
    return int.from_bytes(attributes(reply.messages[0], 4)[GEN_ID], "big")


def chains(netlink: Netlink, family: int, table: str) -> list[str]:
    head = HEADER.pack(FAMILIES[family], 0, 0)
    found = (attributes(m, 4) for m in netlink.dump(Request(GETCHAIN, head)))
    return [text_of(a[CHAIN_NAME]) for a in found if text_of(a[CHAIN_TABLE]) == table]


def rules(netlink: Netlink, family: int, table: str, chain: str | None = None) -> list[RawRule]:
    """List rules in order; of one chain, or of the whole table.  Empty if there is none."""
    body = HEADER.pack(FAMILIES[family], 0, 0) + string(RULE_TABLE, table)
    if chain is not None:
        body += string(RULE_CHAIN, chain)
    # What follows the header, which has the generation in it: a rule is the same each time.
    found = [_rule(message[HEADER.size :]) for message in netlink.dump(Request(GETRULE, body))]
    # an old kernel does not filter
    return [r for r in found if r.table == table and (chain is None or r.chain == chain)]


def expressions(netlink: Netlink, family: int, table: str, chain: str) -> list[bytes]:
    """What the rules of a chain consist of, in order, as the kernel lists it."""
    body = HEADER.pack(FAMILIES[family], 0, 0) + string(RULE_TABLE, table)
    listed = netlink.dump(Request(GETRULE, body + string(RULE_CHAIN, chain)))
    found = (attributes(message, HEADER.size) for message in listed)
    return [a[RULE_EXPRESSIONS] for a in found if text_of(a[RULE_CHAIN]) == chain]


def _rule(raw: bytes) -> RawRule:
    key = blake2b(raw, digest_size=16).digest()
    rule = _remembered.get(key)
    if rule is None:
        rule = _decoded(raw)
        with _remembering:
            if len(_remembered) >= REMEMBERED:
                _remembered.pop(next(iter(_remembered)))
            _remembered[key] = rule
    return rule


def _decoded(raw: bytes) -> RawRule:
    a = attributes(raw)
    verdict, mark = VERDICT.search(raw), IN_BYTES.search(raw)
    return RawRule(
        table=intern(text_of(a[RULE_TABLE])),
        chain=intern(text_of(a[RULE_CHAIN])),
        target=text_of(verdict[1]) if verdict else None,
        handle=int.from_bytes(a[RULE_HANDLE], "big"),
        comment=mark[0] + b"\0" if mark else b"",
        native=NATIVE.search(a.get(RULE_EXPRESSIONS, b"")) is not None,
    )


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule to add: before the one with the handle `before`, or at the end of the chain.

    Or, with `replaces`, in the place of the one with that handle.
    """

    table: str
    chain: str
    expressions: Expressions
    before: int = 0
    replaces: int = 0


def delete(netlink: Netlink, family: int, at: int, handles: Sequence[tuple[str, str, int]]) -> None:
    """Delete rules by (table, chain, handle), all or none, if the generation still is `at`.

    KernelError (ERESTART) if it has not.
    """
    head = HEADER.pack(FAMILIES[family], 0, 0)
    doomed = [
        Request(
            DELRULE,
            head
            + string(RULE_TABLE, table)
            + string(RULE_CHAIN, chain)
            + attr(RULE_HANDLE, handle.to_bytes(8, "big")),
        )
        for table, chain, handle in handles
    ]
    transact(netlink, doomed, at).check(f"remove {len(doomed)} nf_tables rules")


def add(netlink: Netlink, family: int, at: int, rules: Sequence[NewRule]) -> None:
    """Add or replace rules in order, all or none, if the generation still is `at`.

    KernelError if it is not (ERESTART), or where a chain or a rule does not exist (ENOENT).
    """
    head = HEADER.pack(FAMILIES[family], 0, 0)
    transact(netlink, [_new(head, r) for r in rules], at).check(
        f"add {len(rules)} nf_tables rules"
    )


def _new(head: bytes, r: NewRule) -> Request:
    body = head + string(RULE_TABLE, r.table) + string(RULE_CHAIN, r.chain)
    body += nest(RULE_EXPRESSIONS, r.expressions.data)
    if r.expressions.proto:  # for extensions that are for one protocol only
        proto = attr(COMPAT_PROTO, r.expressions.proto.to_bytes(4, "big"))
        body += nest(RULE_COMPAT, proto, attr(COMPAT_FLAGS, bytes(4)))
    if r.expressions.user_data:
        body += attr(RULE_USER_DATA, r.expressions.user_data)
    if r.replaces:
        return Request(NEWRULE, body + attr(RULE_HANDLE, r.replaces.to_bytes(8, "big")), REPLACE)
    if r.before:
        return Request(NEWRULE, body + attr(RULE_POSITION, r.before.to_bytes(8, "big")), CREATE)
    return Request(NEWRULE, body, CREATE | APPEND)


def transact(netlink: Netlink, requests: Sequence[Request], at: int | None = None) -> Reply:
    """Do all of `requests` or none, only if the generation still is `at` where that is given."""
    none = HEADER.pack(0, 0, SUBSYSTEM_NUMBER)
    unchanged = attr(BATCH_GENID, at.to_bytes(4, "big")) if at is not None else b""
    begin = Request(BATCH_BEGIN, none + unchanged)
    # The kernel reports the thread as the author.
    run.acts(threading.get_native_id())
    return netlink.transaction([begin, *requests, Request(BATCH_END, none)])
