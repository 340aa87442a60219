"""Parse the output of iptables-save, of either variant, into a rule set.  Pure.

Source of options: iptables-extensions(8).  What is not known here becomes a Mystery.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from netkit.diagnose.explain.options import OPTIONS, Members, of_set, span
from netkit.diagnose.explain.ruleset import Chain, Condition, Hook, Mystery, Rule, Step, To, Verdict

HOOKS: Mapping[str, Hook] = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
PRIORITY = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}  # linux/netfilter_ipv4.h
NAT_PRIORITY = {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100}
WITHOUT_EFFECT = frozenset(
    {"LOG", "NFLOG", "ULOG", "TRACE", "TCPMSS", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "TTL"}
    | {"AUDIT", "SECMARK", "CONNSECMARK", "IDLETIMER", "LED", "RATEEST"}
)
UNPRINTED = "a set of nft's, which iptables does not list"
EXTENSIONS = frozenset({"NFQUEUE", "QUEUE", "CONNMARK", "NOTRACK", "SYNPROXY"})  # may stand alone


WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
ESCAPED = re.compile(r"\\(.)")


def split(spec: str) -> list[str]:
    """Words as iptables-save quotes them; shlex costs twenty times as much."""
    return [ESCAPED.sub(r"\1", q) if q or not w else w for q, w in WORD.findall(spec)]


def iptables(
    tool: str,
    text: str,
    sets: Members | None = None,
    without_set: Collection[tuple[str, str, int]] = (),
) -> list[Chain]:
    """The chains of all tables in the output of iptables-save; `sets` as ipset knows them.

    Of the rules `without_set` (table, chain, number) the output lacks a condition.
    """
    out: list[Chain] = []
    rules: dict[str, list[Rule]] = {}
    heads: list[tuple[str, str]] = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table, rules, heads = line[1:].strip(), {}, []
        elif line.startswith(":"):
            name, policy, *_ = line[1:].split()
            heads.append((name, policy))
        elif line.startswith("-A "):
            _, chain, *rest = line.split(" ", 2)
            here = rules.setdefault(chain, [])
            rule = _rule(tool, table, chain, len(here) + 1, "".join(rest), sets or {})
            if (table, chain, rule.number) in without_set:
                rule = replace(rule, steps=(Mystery(text=UNPRINTED), *rule.steps))
            here.append(rule)
        elif line == "COMMIT":
            out += [_chain(tool, table, n, p, tuple(rules.get(n, ()))) for n, p in heads]
    return out


def _chain(tool: str, table: str, name: str, policy: str, rules: tuple[Rule, ...]) -> Chain:
    priority = NAT_PRIORITY.get(name, 0) if table == "nat" else PRIORITY.get(table, 0)
    return Chain(
        tool=tool,
        table=table,
        name=name,
        rules=rules,
        hook=HOOKS.get(name) if policy != "-" else None,
        priority=priority,
        policy="drop" if policy == "DROP" else "accept",
        nat=table == "nat",
    )


def _rule(tool: str, table: str, chain: str, number: int, spec: str, sets: Members) -> Rule:
    reader = _Reader(split(spec), sets)
    reader.read()
    return Rule(
        tool=tool,
        table=table,
        chain=chain,
        number=number,
        text=f"-A {chain} {spec}".rstrip(),
        comment=reader.comment,
        steps=(*reader.conditions, *reader.acts),
    )


@dataclass(slots=True)
class _Reader:
    """Reads the options of one rule from left to right."""

    words: list[str]
    sets: Members
    at: int = 0
    comment: str = ""
    conditions: list[Step] = field(default_factory=list)
    acts: list[Step] = field(default_factory=list)

    def read(self) -> None:
        modules: list[str] = []
        while self.at < len(self.words):
            negated = self._next_is("!")
            start, word = self.at, self._take()
            if word == "-m":
                modules.append(self._take())
            elif word in {"-j", "-g"}:
                self._target(word, self._take())
            elif word == "--comment":
                self.comment = self._take()
            elif word in OPTIONS:
                self._condition(word, negated)
            else:
                self._skip_values()
                unknown = " ".join(self.words[start : self.at])
                module = f"-m {modules[-1]} " if modules else ""
                self.conditions.append(Mystery(text=f"{module}{'! ' if negated else ''}{unknown}"))

    def _condition(self, word: str, negated: bool) -> None:
        value = self._take()
        if word == "--tcp-flags":
            value += " " + self._take()
        if word == "--match-set":
            value += " " + self._take()
            found = of_set(value, self.sets)
        else:
            try:
                found = OPTIONS[word](value)
            except (ValueError, KeyError):
                found = None
        if found is None:
            self.conditions.append(Mystery(text=f"{'! ' if negated else ''}{word} {value}"))
            return
        fields, keys = found
        self.conditions.append(Condition(fields=fields, keys=keys, negated=negated))

    def _target(self, flag: str, name: str) -> None:
        rest: dict[str, str] = {}
        while self.at < len(self.words):
            option = self._take()
            start = self.at
            self._skip_values()
            rest[option] = " ".join(self.words[start : self.at])
        self.acts.append(_act(flag, name, rest))

    def _take(self) -> str:
        word = self.words[self.at] if self.at < len(self.words) else ""
        self.at += 1
        return word

    def _next_is(self, word: str) -> bool:
        if self.words[self.at] != word:
            return False
        self.at += 1
        return True

    def _skip_values(self) -> None:
        while self.at < len(self.words) and not self.words[self.at].startswith(("-", "!")):
            self.at += 1


def _act(flag: str, name: str, rest: Mapping[str, str]) -> Step:
    match name:
        case "ACCEPT":
            return Verdict(kind="accept")
        case "DROP":
            return Verdict(kind="drop")
        case "REJECT":
            return Verdict(kind="reject")
        case "RETURN":
            return Verdict(kind="return")
        case "DNAT":
            return Verdict(kind="dnat", to=translation(rest["--to-destination"]))
        case "SNAT":
            return Verdict(kind="snat", to=translation(rest["--to-source"]))
        case "MASQUERADE":
            return Verdict(kind="masquerade")
        case "REDIRECT":
            return Verdict(kind="redirect", to=To(ports=span(rest.get("--to-ports", "0"), "-")))
        case "MARK" if "--set-xmark" in rest:
            value, _, mask = rest["--set-xmark"].partition("/")
            return Verdict(kind="mark", mark=(int(value, 0), int(mask or "0xffffffff", 0)))
        case "CT" if "--notrack" in rest:
            return Verdict(kind="untrack")
    if name in WITHOUT_EFFECT or name == "CT":  # helpers and zones: none of ours
        return Verdict(kind="pass")
    if (name.isupper() and rest) or name in EXTENSIONS:
        return Mystery(text=f"{flag} {name}", acts=True)
    return Verdict(kind="jump" if flag == "-j" else "goto", chain=name)


def translation(text: str) -> To:
    """ADDRESS[-ADDRESS][:PORT[-PORT][/BASE]], each part optional."""
    where, _, ports = text.partition(":")
    ends = [IPv4Address(a) for a in where.split("-")] if where else []
    ports, _, base = ports.partition("/")
    return To(
        addresses=(ends[0], ends[-1]) if ends else None,
        ports=span(ports, "-") if ports else (0, 0),
        base=int(base or 0),
    )
