"""Firewall chains as lists of entries: ours, identified by their comment, and foreign ones between.

    chain   head                                tail
            ours, rank < 0 | foreign and ours mixed | ours, rank >= 0 in order

Foreign rules are never parsed.  The comment of ours is

    netkit:<engine>:<network>[:<endpoint>] <digest>[ <rank>][ (<names for people>)]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from netkit.errors import KernelError
from netkit.kernel.iptables import nft_compat, tools
from netkit.model import Rule

IN_TEXT = re.compile(nft_compat.COMMENT)
UNPRINTABLE = re.compile(r"[^\w .,:@/-]", re.ASCII)  # in a comment between quotes
JUMP = re.compile(r"(?:^| )-[jg] (\S+)")
LONGEST_COMMENT = 255  # XT_MAX_COMMENT_LEN - 1
Place = tuple[int, str]  # family, table


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule in its chain; `owner` is None for a foreign one."""

    owner: str | None = None
    digest: str = ""
    rank: int = 0
    target: str | None = None
    spec: str = ""  # as iptables-save prints it; "" where it was not asked
    handle: int = 0  # by which nf_tables knows it
    comment: str = ""  # in full, of one of ours


Chains = dict[str, list[Entry]]


def is_rule(e: Entry, r: Rule) -> bool:
    return e.digest == r.digest and e.owner == r.owner


def position(entries: Sequence[Entry], rank: int) -> int:
    """Return the index in the chain for a rule of this rank.

    Looks from the end where it belongs, and no further than the first of ours that stands right.
    """
    if rank < 0:
        at = 0
        for i, e in enumerate(entries):
            if e.owner is not None and e.rank > rank:
                break
            at = i + 1 if e.owner is not None else at
        return at
    at = len(entries)
    for i in range(len(entries) - 1, -1, -1):
        if entries[i].owner is not None:
            if entries[i].rank <= rank:
                break
            at = i
    return at


def misplaced(entries: Sequence[Entry]) -> set[str]:
    """Return digests of our rules that are duplicates, or not where `position` puts them."""
    out: set[str] = set()
    seen: set[str] = set()
    foreign, highest = False, None
    for e in entries:
        if e.owner is None:
            foreign = True
            continue
        late = highest is not None and e.rank < highest
        if e.digest in seen or late or (foreign and e.rank < 0):
            out.add(e.digest)
        seen.add(e.digest)
        highest = e.rank if highest is None else max(highest, e.rank)
    return out


def spec_of(r: Rule, comment: str = "") -> str:
    """Return what follows `-A CHAIN`, with `comment` if the existing rule has that one."""
    args = tools.quoted((*r.args, "-m", "comment", "--comment"))
    return f'{args} "{comment_of(r, comment)}"'


def comment_of(r: Rule, comment: str = "") -> str:
    """Return its comment, `comment` if the existing rule has that one.

    KernelError for one by which it would not be known again.
    """
    comment = comment or _comment(r)
    found = IN_TEXT.match(f'{comment}"')
    if found is None or found.end() != len(comment):
        raise KernelError(f"rule of {r.owner!r}: an owner starts with netkit: and has no blanks")
    if len(comment) > LONGEST_COMMENT:
        raise KernelError(f"rule of {r.owner}: the comment is over {LONGEST_COMMENT} characters")
    return comment


def _comment(r: Rule) -> str:
    rank = f" {r.rank}" if r.rank else ""
    comment = f"{r.owner} {r.digest}{rank}"
    names = UNPRINTABLE.sub("", r.label)
    labelled = f"{comment} ({names})"
    return labelled if names and len(labelled) <= LONGEST_COMMENT else comment


def without_comment(spec: str) -> tuple[str, ...]:
    """Return the arguments of one of our rules, as iptables-save printed it, without comment."""
    args = list(tools.arguments(spec))
    at = args.index("--comment")
    del args[at - 2 : at + 2]
    return tuple(args)


def from_save(table: tools.SavedTable) -> Chains:
    out: Chains = {name: [] for name in table.chains}
    for rule in table.rules:
        mark, jump = IN_TEXT.search(rule.spec), JUMP.search(rule.spec)
        target = jump[1] if jump else None
        entry = Entry(target=target, spec=rule.spec)
        if mark:
            entry = Entry(mark[1], mark[2], int(mark[3] or 0), target, rule.spec)
        out.setdefault(rule.chain, []).append(entry)
    return out


def from_netlink(rules: Sequence[nft_compat.RawRule]) -> Chains:
    out: Chains = {}
    for rule in rules:
        out.setdefault(rule.chain, []).append(_entry(rule))
    return out


@lru_cache(maxsize=nft_compat.REMEMBERED)
def _entry(rule: nft_compat.RawRule) -> Entry:
    mark = nft_compat.IN_BYTES.match(rule.comment)
    if mark is None:
        return Entry(target=rule.target, handle=rule.handle)
    owner, digest, rank = mark[1].decode(), mark[2].decode(), int(mark[3] or 0)
    comment = mark[0].decode(errors="replace")
    return Entry(owner, digest, rank, rule.target, handle=rule.handle, comment=comment)
