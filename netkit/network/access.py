"""Store the user's access rules on containers: by names, kept over restarts and new addresses.

A rule belongs to the container it is about, and goes with it.  One that names its source as a
container goes with that one, too: it never matches the next owner of its address.  If that is a
container of another host, which looks the same removed or stopped, the rule stays.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

import msgspec

from netkit.errors import Conflict, InvalidSpec, NotFound, NotSupported
from netkit.store import Database, Kind, ReadAtOnce

PROTOCOLS = ("tcp", "udp", "sctp")
UNREADABLE = "unreadable"  # the verdict of a rule whose row cannot be decoded
ACCESS = Kind("access rule", "access", "remove it with `netkit fw rm {id}`, and add it anew")
MOST_SOURCES = 65536  # of one rule; the default size of an ipset

TABLES = (
    """
    CREATE TABLE access (id TEXT PRIMARY KEY, seq INTEGER NOT NULL, target TEXT NOT NULL,
        source TEXT NOT NULL, doc BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX access_target ON access (target);
    CREATE INDEX access_source ON access (source)
    """,
)


class AccessRule(msgspec.Struct, kw_only=True, frozen=True):
    """One rule.  `seq` is its place: the first that matches decides."""

    verdict: str  # accept, drop
    target: str  # sandbox (container) id
    sources: tuple[str, ...] = ()  # networks in CIDR notation
    source: str = ""  # or a sandbox id
    proto: str = ""  # "": all
    first: int = 0  # ports; 0 and 0: all
    last: int = 0
    published: bool = False  # ports of the host, not of the container
    id: str = ""
    seq: int = 0


_rule = msgspec.json.Decoder(AccessRule)
_json = msgspec.json.Encoder()


def validate(rule: AccessRule) -> AccessRule:
    """Return it with networks in normal form; raise InvalidSpec for what is invalid."""
    if rule.verdict not in {"accept", "drop"}:
        raise InvalidSpec(f"invalid verdict {rule.verdict!r}: use accept or drop")
    if bool(rule.sources) == bool(rule.source):
        raise InvalidSpec("an access rule has either networks or one container as its source")
    if len(rule.sources) > MOST_SOURCES:
        raise InvalidSpec(f"an access rule has at most {MOST_SOURCES} source networks")
    if rule.source == rule.target:
        raise InvalidSpec("source and target of an access rule are the same container")
    if rule.proto and rule.proto not in PROTOCOLS:
        raise InvalidSpec(f"invalid protocol {rule.proto!r}: use {', '.join(PROTOCOLS)}")
    if rule.first and not rule.proto:
        raise InvalidSpec("ports need a protocol, as in 80/tcp")
    if bool(rule.first) != bool(rule.last) or not 0 <= rule.first <= rule.last < 65536:
        raise InvalidSpec(f"invalid ports {rule.first}-{rule.last}: 1 to 65535, lower first")
    if rule.published and not rule.first:
        raise InvalidSpec("a published port needs its number, as in 8080/tcp")
    networks = sorted({source_network(text) for text in rule.sources})
    return msgspec.structs.replace(rule, sources=tuple(str(n) for n in networks))


def source_network(text: str) -> IPv4Network:
    """`192.0.2.7` or `192.0.2.0/24`; host bits are an error, they mean a typing mistake."""
    try:
        network = ip_network(text)
    except ValueError as bad:
        raise InvalidSpec(f"invalid source {text!r}: {bad}") from None
    if not isinstance(network, IPv4Network):
        raise NotSupported(f"IPv6 is not supported yet: source {text}")
    return network


def parse_port(text: str) -> tuple[str, int, int]:
    """(protocol, first, last) of `80`, `80/tcp`, `8000-8010/udp`; tcp by default."""
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?", text)
    if not found:
        raise InvalidSpec(f"invalid port {text!r}: write 80/tcp or 8000-8010/udp")
    first, last = int(found[1]), int(found[2] or found[1])
    proto = (found[3] or "tcp").lower()
    if proto not in PROTOCOLS:
        raise InvalidSpec(f"invalid protocol in port {text!r}: use {', '.join(PROTOCOLS)}")
    if not 0 < first <= last < 65536:
        raise InvalidSpec(f"invalid port {text!r}: 1 to 65535, the lower end first")
    return proto, first, last


@dataclass(frozen=True, slots=True)
class Row:
    """A rule with its document as stored."""

    rule: AccessRule
    doc: object


class AccessRuleStore:
    """The table."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("access", TABLES)
        self.of_sandbox()  # so that those that cannot be read are logged, and listed by `left_out`

    def add(self, rule: AccessRule, *, id: str, first: bool = False) -> AccessRule:
        """Add a rule at the end, or before all others.  Conflict if an equal one exists."""
        with self._db.transaction():
            for there in self.of_sandbox(target=rule.target):
                if msgspec.structs.replace(there, id="", seq=0) == rule:
                    raise Conflict(f"access rule {there.id} is the same already")
            ends = self._db.rows("SELECT min(seq) AS low, max(seq) AS high FROM access")[0]
            seq = (ends["low"] or 0) - 1 if first else (ends["high"] or 0) + 1
            rule = msgspec.structs.replace(rule, id=id, seq=seq)
            try:
                self._db.execute(
                    "INSERT INTO access VALUES (?, ?, ?, ?, ?)",
                    (rule.id, seq, rule.target, rule.source, _json.encode(rule)),
                )
            except sqlite3.IntegrityError as taken:
                raise Conflict(f"access rule {id} exists") from taken
        return rule

    def restore(self, row: Row) -> None:
        """Add a removed rule again, in its former place."""
        r = row.rule
        self._db.execute(
            "INSERT OR REPLACE INTO access VALUES (?, ?, ?, ?, ?)",
            (r.id, r.seq, r.target, r.source, row.doc),
        )

    def find(self, ref: str) -> Row:
        """Find a rule by id or unique id prefix, readable or not."""
        rows = self._db.rows("SELECT * FROM access WHERE substr(id, 1, ?)=?", (len(ref), ref))
        if not ref or not rows:
            raise NotFound(f"no such access rule: {ref}")
        if len(rows) > 1:
            raise InvalidSpec(f"several access rules begin with {ref}: give more of the id")
        return Row(self._rule(rows[0]), rows[0]["doc"])

    def _rule(self, row: sqlite3.Row) -> AccessRule:
        """Where its document cannot be decoded: what the other columns hold, as UNREADABLE."""
        for rule in self._db.readable([row], _rule.decode, ACCESS):
            return rule
        return AccessRule(
            verdict=UNREADABLE,
            target=str(row["target"]),
            source=str(row["source"]),
            id=str(row["id"]),
            seq=int(row["seq"]),
        )

    def delete(self, id: str) -> None:
        self._db.execute("DELETE FROM access WHERE id=?", (id,))

    def forget(self, sandbox: str) -> None:
        """Delete all rules with this sandbox as target or source, readable or not."""
        self._db.execute("DELETE FROM access WHERE target=? OR source=?", (sandbox, sandbox))

    def stored(self, *, target: str | None = None) -> list[AccessRule]:
        """List all rules, or those on one sandbox, in order; with those of verdict UNREADABLE."""
        where, args = (" WHERE target=?", (target,)) if target is not None else ("", ())
        rows = self._db.rows(f"SELECT * FROM access{where} ORDER BY seq", args)
        return [self._rule(row) for row in rows]

    def on(self) -> ReadAtOnce[list[AccessRule]]:
        """As `stored`, by target, for who asks for many of them, most of which have none."""

        def every() -> dict[str, list[AccessRule]]:
            found: dict[str, list[AccessRule]] = defaultdict(list)
            for rule in self.stored():
                found[rule.target].append(rule)
            return found

        return ReadAtOnce(self._db, every, lambda target: self.stored(target=target))

    def of_sandbox(
        self, *, target: str | None = None, source: str | None = None
    ) -> list[AccessRule]:
        """In order."""
        asked = {"target=?": target, "source=?": source}
        words = {k: v for k, v in asked.items() if v is not None}
        where = f" WHERE {' AND '.join(words)}" if words else ""
        rows = self._db.rows(
            f"SELECT id, doc FROM access{where} ORDER BY seq", tuple(words.values())
        )
        return self._db.readable(rows, _rule.decode, ACCESS)
