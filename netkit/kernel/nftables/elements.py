"""Requests that add and delete elements of sets, without nft: what a container adds and takes away.

A change of elements alone is one message a set, 0.1 ms; nft takes 2 to 3 ms to start and to read
the ruleset.  What is written is as nft writes it, comments included, so nft lists it as its own.
Pure.  Numbers: linux/netfilter/nf_tables.h; user data: libnftnl, include/libnftnl/udata.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from netkit.kernel.iptables.nft_compat import SUBSYSTEM
from netkit.kernel.netlink.codec import CREATE, EXCL, Request, attr, nest, string
from netkit.kernel.nftables import read
from netkit.kernel.nftables.script import comment_of, element_text
from netkit.kernel.nftables.values import pack
from netkit.model.nftables import CATCH_ALL, NftElement, NftSet
from netkit.reconcile.plan import Op

NEWSETELEM, DELSETELEM = SUBSYSTEM | 12, SUBSYSTEM | 14
UDATA_COMMENT = 0  # a byte of type, a byte of length, the text with its terminating zero
VERDICTS = {word: code for code, word in read.VERDICTS.items()}
AT_ONCE = 200  # elements a message: a list of attributes has 64 KiB at most, an element 300 bytes
MOST = 5000  # of one change: what is larger is rare, and nft's own time does not matter there

Place = tuple[str, str]  # table and set


def element_requests(ops: Sequence[Op], sets: Mapping[Place, NftSet]) -> list[Request] | None:
    """Of a change of nothing but elements of these sets; deletions first.

    None for what nft has to do: another kind of resource, a set that is not known, a value that
    the set cannot hold, an element for all else.  KernelError for what is no value of its type.
    """
    if not 0 < len(ops) <= MOST or not all(_simple(op, sets) for op in ops):
        return None
    gone = [op.before for op in ops if isinstance(op.before, NftElement)]
    made = [op.after for op in ops if isinstance(op.after, NftElement)]
    return [
        *_messages(DELSETELEM, 0, sets, gone),
        *_messages(NEWSETELEM, CREATE | EXCL, sets, made),
    ]


def _simple(op: Op, sets: Mapping[Place, NftSet]) -> bool:
    r = op.subject
    if not isinstance(r, NftElement) or (op.before is None) == (op.after is None):
        return False
    s = sets.get((r.table, r.set))
    if s is None or r.key_fields == CATCH_ALL:
        return False
    return op.after is None or bool(s.data) == bool(r.value)


def _messages(
    kind: int, flags: int, sets: Mapping[Place, NftSet], elements: Iterable[NftElement]
) -> Iterator[Request]:
    """In the order of the elements, those of one set together."""
    by_set: dict[Place, list[bytes]] = {}
    for r in elements:
        s = sets[r.table, r.set]
        inner = _key(s, r)
        if kind == NEWSETELEM:
            element_text(s, r)  # what nft cannot write it could not undo, nor list
            inner += _comment(r) + (_data(s, r.value) if s.data else b"")
        by_set.setdefault((r.table, r.set), []).append(nest(read.LIST_ELEM, inner))
    for (table, name), items in by_set.items():
        for start in range(0, len(items), AT_ONCE):
            listed = nest(read.LIST_ELEMENTS, *items[start : start + AT_ONCE])
            yield Request(kind, read.of_set(table, name) + listed, flags)


def _key(s: NftSet, r: NftElement) -> bytes:
    span = pack(s.fields, r.key_fields)
    key = nest(read.ELEM_KEY, attr(read.DATA_VALUE, span.low))
    if s.ranges:
        key += nest(read.ELEM_KEY_END, attr(read.DATA_VALUE, span.high))
    return key


def _data(s: NftSet, value: Sequence[str]) -> bytes:
    if s.data != ("verdict",):
        return nest(read.ELEM_DATA, attr(read.DATA_VALUE, pack(s.data, value).low))
    word, *target = value
    code = attr(read.VERDICT_CODE, struct.pack(">i", VERDICTS[word]))
    chain = string(read.VERDICT_CHAIN, target[0]) if target else b""
    return nest(read.ELEM_DATA, nest(read.DATA_VERDICT_NEST, code, chain))


def _comment(r: NftElement) -> bytes:
    text = comment_of(r).encode() + b"\0"
    return attr(read.ELEM_USERDATA, bytes((UDATA_COMMENT, len(text))) + text)
