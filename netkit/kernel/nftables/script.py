"""Write nft commands for a list of steps.  Pure.

Steps are written in their order, with two exceptions, invisible within one transaction.  Elements
go first, for a range may take the place of one that it overlaps.  New rules come last: where one
goes depends on its rank, not on when it was planned, and nothing needs a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from netkit.errors import KernelError
from netkit.kernel.iptables.chains import Entry, position
from netkit.kernel.nftables.values import pack
from netkit.model import Resource
from netkit.model.nftables import (
    BY_HANDLE,
    CATCH_ALL,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    NftTable,
    family_of,
)
from netkit.reconcile.plan import Op

LONGEST_COMMENT = 127  # bytes; NFTNL_UDATA_COMMENT_MAXLEN without the terminating zero
OWNER = re.compile(r"netkit:[^\s\0\"\\]+")
TEXT = re.compile(r"[^\"\\\0\r\n]+")  # what may stand between quotes
NAME = re.compile(r"[A-Za-z][\w./-]*", re.ASCII)

Place = tuple[str, str]  # table, and chain or set
Texts = Callable[[NftRule], str]  # of a rule of which nothing but the digest was observed


def write(
    ops: Sequence[Op],
    sets: Mapping[Place, NftSet],
    there: Mapping[Place, Sequence[Entry]],
    text_of: Texts,
) -> str:
    """Write commands for `ops`; "" if there is nothing to do.

    `sets` are those that elements belong to, `there` the chains that rules belong to, as they
    are.  KernelError for what nft's syntax cannot express.
    """
    doomed = {op.before.name for op in ops if isinstance(op.before, NftTable) and not op.after}
    known = {**sets, **{(s.table, s.name): s for s in _made(ops)}}
    lines = list(_emptied(ops, doomed))
    ops = sorted(ops, key=lambda op: not (isinstance(op.before, NftElement) and op.after is None))
    for (verb, place), members in groupby(ops, key=_kind):
        if place is not None:
            lines += _elements(verb, known.get(place), place, list(members), doomed)
            continue
        for op in members:
            if op.after is None:
                lines += _delete(op.before, there, doomed)
            elif op.before is None:
                lines += _create(op.after)
            else:
                lines += _change(op, there)
    lines += _rules(ops, there, text_of)
    return "".join(f"{line}\n" for line in lines)


def _emptied(ops: Sequence[Op], doomed: set[str]) -> Iterator[str]:
    """Chains of other tools in our tables: their rules may refer to each other, and to sets."""
    for r in (op.before for op in ops if op.after is None):
        if isinstance(r, NftChain) and r.table not in doomed and (r.owner or "").endswith(":stray"):
            yield f"flush chain {_table(r.table)} {_name(r.name)}"


def _made(ops: Sequence[Op]) -> Iterator[NftSet]:
    return (op.after for op in ops if isinstance(op.after, NftSet))


def _kind(op: Op) -> tuple[str, Place | None]:
    """Elements of one set that stand together go into one command."""
    verb = "delete" if op.after is None else "create"
    r = op.subject
    return (verb, (r.table, r.set)) if isinstance(r, NftElement) else (verb, None)


def _elements(
    verb: str, s: NftSet | None, place: Place, ops: Sequence[Op], doomed: set[str]
) -> Iterator[str]:
    if verb == "delete" and place[0] in doomed:
        return
    if s is None:
        raise KernelError(f"nf_tables has no set {' '.join(place)}")
    yield f"{verb} element {_table(place[0])} {_name(place[1])} {{"
    for op in ops:
        r = op.subject
        assert isinstance(r, NftElement)
        if op.before is not None and op.after is not None:
            raise KernelError(f"{op}: an element cannot be changed in place")
        yield f"{element_text(s, r) if verb == 'create' else _fields(s.fields, r.key_fields)},"
    yield "}"


def element_text(s: NftSet, r: NftElement) -> str:
    """As nft's syntax has it.  KernelError for what that cannot express."""
    value = ""
    if s.data == ("verdict",):
        word, *target = r.value
        value = " : " + " ".join((word, *map(_name, target)))
    elif s.data:
        value = f" : {_fields(s.data, r.value)}"
    elif r.value:
        raise KernelError(
            f"set {s.table} {s.name} is no map: no value for {' . '.join(r.key_fields)}"
        )
    return f"{_fields(s.fields, r.key_fields)} comment {_comment(r)}{value}"


def _fields(types: Sequence[str], texts: Sequence[str]) -> str:
    if tuple(texts) == CATCH_ALL:
        return "*"
    pack(types, texts)  # raises for what is no value of its type
    return " . ".join(
        _quoted(text.replace("*", "\\*")) if kind == "ifname" else text
        for kind, text in zip(types, texts, strict=True)
    )


def _create(r: Resource) -> Iterator[str]:
    match r:
        case NftTable(name=name):
            yield f"create table {_table(name)} {{ comment {_comment(r)}; }}"
        case NftChain(table=table, name=name, hook=hook):
            base = ""
            if hook is not None:
                base = f"type {hook.kind} hook {hook.point} priority {hook.priority}; "
                base += f"policy {r.default}; "
            body = f"{{ {base}comment {_comment(r)}; }}"
            yield f"create chain {_table(table)} {_name(name)} {body}"
        case NftSet(table=table, name=name):
            if r.ranges and len(r.fields) < 2:
                raise KernelError(f"set {name}: with ranges there must be two fields or more")
            kind = " . ".join(r.fields) + (f" : {' . '.join(r.data)}" if r.data else "")
            flags = "flags interval; " if r.ranges else ""
            body = f"{{ type {kind}; {flags}comment {_comment(r)}; }}"
            yield f"create {_set_word(r)} {_table(table)} {_name(name)} {body}"


def _change(op: Op, there: Mapping[Place, Sequence[Entry]]) -> Iterator[str]:
    match op.after:
        case NftChain(table=table, name=name, default=default):
            # `add`, of a chain that exists, changes its policy: nft(8).
            yield f"add chain {_table(table)} {_name(name)} {{ policy {default}; }}"
        case NftRule():  # made again where it belongs, see `_rules`
            yield from _delete(op.before, there, set())
        case _:
            raise KernelError(f"{op}: this cannot be changed in place")


def _delete(
    r: Resource | None, there: Mapping[Place, Sequence[Entry]], doomed: set[str]
) -> Iterator[str]:
    match r:
        case NftTable(name=name):
            yield f"delete table {_table(name)}"
        case NftChain(table=table) | NftSet(table=table) | NftRule(table=table) if table in doomed:
            return
        case NftChain(table=table, name=name):
            # nft(8): a chain to be deleted must not have rules.
            yield f"flush chain {_table(table)} {_name(name)}"
            yield f"delete chain {_table(table)} {_name(name)}"
        case NftSet(table=table, name=name):
            yield f"delete {_set_word(r)} {_table(table)} {_name(name)}"
        case NftRule(table=table, chain=chain):
            for e in there.get((table, chain), ()):
                if _is(e, r):
                    yield f"delete rule {_table(table)} {_name(chain)} handle {e.handle}"


def _rules(
    ops: Sequence[Op], there: Mapping[Place, Sequence[Entry]], text_of: Texts
) -> Iterator[str]:
    gone = [op.before for op in ops if isinstance(op.before, NftRule)]
    made = [op.after for op in ops if isinstance(op.after, NftRule)]
    new = [r for r in made if not r.digest.startswith(BY_HANDLE)]  # not another tool's
    chains = {
        place: [e for e in entries if not any(_is(e, r) for r in gone if _at(r) == place)]
        for place, entries in there.items()
    }
    for r in sorted(new, key=lambda r: (r.table, r.chain, r.rank)):
        entries = chains.setdefault(_at(r), [])
        at = position(entries, r.rank)
        # Rules that this same text adds have no handle yet: the next one that has is as good, since
        # they are added in the order of their ranks.
        before = next((e.handle for e in entries[at:] if e.handle), 0)
        how = f"insert rule {_table(r.table)} {_name(r.chain)} handle {before}" if before else (
            f"add rule {_table(r.table)} {_name(r.chain)}"
        )  # fmt: skip
        yield f"{how} {text_of(r)} comment {_comment(r)}"
        entries.insert(at, Entry(r.owner, r.digest, r.rank))


def _at(r: NftRule) -> Place:
    return r.table, r.chain


def _is(e: Entry, r: NftRule) -> bool:
    return r.digest == f"{BY_HANDLE}{e.handle}" or (e.digest == r.digest and e.owner == r.owner)


def comment_of(r: Resource) -> str:
    """Its mark, by which it is known again: KernelError if it has no owner, or is too long."""
    words = [r.owner or ""]
    if isinstance(r, NftRule):
        words += [r.digest, *([str(r.rank)] if r.rank else [])]
    if not OWNER.fullmatch(words[0]):
        raise KernelError(f"{r} of {r.owner!r}: an owner starts with netkit:")
    comment = " ".join(words)
    if len(comment.encode()) > LONGEST_COMMENT:
        raise KernelError(f"{r}: the comment is over {LONGEST_COMMENT} bytes")
    return comment


def _comment(r: Resource) -> str:
    return _quoted(comment_of(r))


def _quoted(text: str) -> str:
    if not TEXT.fullmatch(text.replace("\\*", "*")):
        raise KernelError(f"nft cannot express {text!r}")
    return f'"{text}"'


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise KernelError(f"{text!r} is no name for nft")
    return text


def _table(text: str) -> str:
    """With its family, which is ip unless it is named."""
    family, name = family_of(text)
    return f"{family} {_name(name)}"


def _set_word(s: NftSet) -> str:
    return "map" if s.data else "set"
