"""Parse the output of `nft -j list` into a rule set.  Pure.

Source: libnftables-json(5).  What is not known here becomes a Mystery.  Of tables that iptables-nft
lists, its own base chains are left out: iptables-nft-save lists them better.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from netkit.diagnose.explain.nftvalues import (
    Json,
    OtherFamily,
    Unknown,
    key_of,
    number,
    parts_of,
    place,
    spoken,
    verbatim,
    verdict,
    verdict_of,
    word,
    words_of,
)
from netkit.diagnose.explain.ruleset import (
    PROTOCOLS,
    Chain,
    Condition,
    Element,
    Hook,
    Key,
    Lookup,
    Mystery,
    Rule,
    Step,
    To,
    Verdict,
)

TOOL = "nft"
FAMILIES = frozenset({"ip", "inet"})
OF_IPTABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})  # in family ip
BUILTIN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
HOOKS = frozenset({"prerouting", "input", "forward", "output", "postrouting"})
WITHOUT_EFFECT = frozenset({"counter", "log", "comment", "quota", "last"})
META = {
    "iifname": "iif", "oifname": "oif", "iif": "iif", "oif": "oif",
    "l4proto": "proto", "mark": "mark", "nfproto": "nfproto",
}  # fmt: skip
FIELDS = {
    ("ip", "saddr"): "src", ("ip", "daddr"): "dst", ("ip", "protocol"): "proto",
    ("ether", "saddr"): "mac", ("icmp", "type"): "icmp type",
}  # fmt: skip
CT = {
    "state": "ct", "status": "ct", "direction": "ct direction",
    "ip saddr": "original src", "saddr": "original src",
    "ip daddr": "original dst", "daddr": "original dst",
    "proto-src": "original sport", "proto-dst": "original dport", "protocol": "proto",
}  # fmt: skip


def nft(text: str, plain: str = "", known: Collection[str] = OF_IPTABLES) -> list[Chain]:
    """The chains of IPv4 traffic in `nft -j list ruleset` or `list table`.

    `plain` is the same from `nft -a`, with or without -t: it gives rules their own words.
    Of tables in `known`, of family ip, the base chains that iptables makes are left out: another
    tool lists them.
    """
    said = verbatim(plain)
    things = [t for t in json.loads(text)["nftables"] if isinstance(t, dict)]
    chains: dict[tuple[str, str], dict[str, Json]] = {}
    rules: dict[tuple[str, str], list[dict[str, Json]]] = {}
    named: dict[tuple[str, str], dict[str, Json]] = {}
    for thing in things:
        ((kind, raw),) = thing.items()
        family, table = raw.get("family"), raw.get("table")
        if family not in FAMILIES:
            continue
        where = f"{family} {table}"
        if kind == "chain":
            if family == "ip" and table in known and raw["name"] in BUILTIN:
                raw = {**raw, "hook": ""}  # iptables-nft prints it
            chains[where, raw["name"]] = raw
        elif kind == "rule":
            rules.setdefault((where, raw["chain"]), []).append(raw)
        elif kind in {"set", "map"}:
            named[where, raw["name"]] = raw
    return [
        _chain(where, name, raw, rules.get((where, name), []), _Names(said, named))
        for (where, name), raw in chains.items()
    ]


@dataclass(frozen=True, slots=True)
class _Names:
    said: Mapping[tuple[str, int], str]  # rules verbatim, by table and handle
    sets: Mapping[tuple[str, str], Mapping[str, Json]]  # sets and maps, by table and name


def layer2(text: str, known: Collection[str] = ()) -> list[str]:
    """Chains with rules on bridged frames or at a device, of which we evaluate nothing.

    Tables in `known` are not meant.
    """
    out: dict[str, None] = {}
    for thing in json.loads(text)["nftables"]:
        rule = thing.get("rule") if isinstance(thing, dict) else None
        if rule and rule["family"] in {"bridge", "netdev"} and rule["table"] not in known:
            out[f"{rule['family']} {rule['table']} {rule['chain']}"] = None
    return list(out)


def _chain(
    where: str,
    name: str,
    raw: Mapping[str, Json],
    rules: Sequence[Mapping[str, Json]],
    names: _Names,
) -> Chain:
    hook = raw.get("hook")
    return Chain(
        tool=TOOL,
        table=where,
        name=name,
        rules=tuple(_rule(where, name, n, r, names) for n, r in enumerate(rules, 1)),
        hook=cast(Hook, hook) if hook in HOOKS else None,
        priority=int(cast(int, raw.get("prio", 0))),
        policy="drop" if raw.get("policy") == "drop" else "accept",
        nat=raw.get("type") == "nat",
    )


def _rule(
    where: str,
    chain: str,
    number: int,
    raw: Mapping[str, Json],
    names: _Names,
) -> Rule:
    reader = _Reader(where, names.sets)
    for statement in cast(Iterable[Mapping[str, Json]], raw["expr"]):
        reader.read(statement)
    comment = str(raw.get("comment", ""))
    handle = int(cast(int, raw.get("handle", 0)))
    said = names.said.get((where, handle))
    return Rule(
        tool=TOOL,
        table=where,
        chain=chain,
        number=number,
        text=said or spoken(raw["expr"]),
        comment=comment,
        steps=tuple(reader.steps),
        handle=handle,
    )


@dataclass(slots=True)
class _Reader:
    where: str
    named: Mapping[tuple[str, str], Mapping[str, Json]]
    steps: list[Step] = field(default_factory=list)

    def read(self, statement: Mapping[str, Json]) -> None:
        ((kind, value),) = statement.items()
        try:
            self._read(kind, value)
        except OtherFamily:
            self.steps.append(Condition(fields=("nfproto",), keys=((frozenset({"ipv6"}),),)))
        except (Unknown, KeyError, TypeError, ValueError):
            acts = kind not in {"match", "limit", "ct helper", "meter", "set"}
            self.steps.append(Mystery(text=spoken(statement), acts=acts))

    def _read(self, kind: str, value: Json) -> None:
        match kind:
            case "match":
                self._match(cast(Mapping[str, Json], value))
            case "vmap":
                raw = cast(Mapping[str, Json], value)
                self.steps.append(self._lookup(raw, verdict))
            case "dnat" | "snat":
                self._translation(kind, cast(Mapping[str, Json], value))
            case "redirect" | "masquerade":
                raw = cast(Mapping[str, Json], value or {})
                port = (number(raw["port"]),) * 2 if "port" in raw else (0, 0)
                act = Verdict(kind="redirect", to=To(ports=port))
                self.steps.append(act if kind == "redirect" else Verdict(kind="masquerade"))
            case "mangle":
                raw = cast(Mapping[str, Json], value)
                if raw["key"] != {"meta": {"key": "mark"}} or not isinstance(raw["value"], int):
                    raise Unknown
                self.steps.append(Verdict(kind="mark", mark=(raw["value"], 0xFFFFFFFF)))
            case "notrack":
                self.steps.append(Verdict(kind="untrack"))
            case _ if kind in WITHOUT_EFFECT:
                self.steps.append(Verdict(kind="pass")) if kind == "log" else None
            case _:
                self.steps.append(verdict({kind: value}))

    def _match(self, raw: Mapping[str, Json]) -> None:
        left, right, op = raw["left"], raw["right"], raw["op"]
        if isinstance(left, dict) and "&" in left:  # flags: ct status & dnat == dnat, tcp flags
            operands = left["&"]
            if right not in (operands[1], 0) or "ct" not in operands[0]:
                raise Unknown
            left, op, right = operands[0], "!=" if right == 0 and op == "==" else "in", operands[1]
            op = "in" if raw["right"] == 0 and raw["op"] == "!=" else op
        if op not in {"==", "!=", "in"}:
            raise Unknown
        fields = self._fields(left)
        keys = tuple(self._keys(fields, right))
        elements = tuple(self._named(right)) if op != "!=" else ()
        self.steps.append(
            Condition(fields=fields, keys=keys, negated=op == "!=", elements=elements)
        )

    def _named(self, right: Json) -> Iterable[Element]:
        """The elements of a named set."""
        if isinstance(right, str) and right.startswith("@"):
            for element in self._elements(right):
                yield words_of(right, element)

    def _fields(self, left: Json) -> tuple[str, ...]:
        """Their names; a port's protocol becomes a condition of its own."""
        raw = cast(Mapping[str, Json], left)
        if "concat" in raw:
            parts = cast(Iterable[Json], raw["concat"])
            return tuple(f for part in parts for f in self._fields(part))
        if "meta" in raw:
            return (META[word(raw["meta"], "key")],)
        if "ct" in raw:
            ct = cast(Mapping[str, Json], raw["ct"])
            if ct.get("dir", "original") != "original":
                raise Unknown
            return (CT[str(ct["key"])],)
        if "fib" in raw:
            fib = cast(Mapping[str, Json], raw["fib"])
            flags = fib["flags"] if isinstance(fib["flags"], list) else [fib["flags"]]
            if fib["result"] != "type" or len(flags) != 1:
                raise Unknown
            return (f"{'dst' if flags[0] == 'daddr' else 'src'} type",)
        payload = cast(Mapping[str, Json], raw["payload"])
        protocol, name = str(payload["protocol"]), str(payload["field"])
        if protocol in {"ip6", "icmpv6"}:
            raise OtherFamily
        if name in {"sport", "dport"}:
            if protocol != "th":
                self._must_be(protocol)
            return (name,)
        if protocol == "icmp":
            self._must_be(protocol)
        return (FIELDS[protocol, name],)

    def _must_be(self, protocol: str) -> None:
        number = PROTOCOLS[protocol]
        self.steps.append(Condition(fields=("proto",), keys=(((number, number),),)))

    def _elements(self, ref: Json) -> list[Json]:
        """Of a named set or map, or written in place."""
        if isinstance(ref, str):
            raw = self.named[self.where, ref.removeprefix("@")]
            if "dynamic" in cast(Sequence[str], raw.get("flags", ())):
                raise Unknown
            return cast(list[Json], raw.get("elem", []))
        return cast(list[Json], cast(Mapping[str, Json], ref)["set"])

    def _keys(self, fields: tuple[str, ...], right: Json) -> Iterable[tuple[Key, ...]]:
        by_name = isinstance(right, str) and right.startswith("@")
        if by_name or (isinstance(right, dict) and "set" in right):
            for element in self._elements(right):
                yield key_of(fields, element)
        elif isinstance(right, list):
            yield (frozenset(map(str, right)),)
        else:
            yield key_of(fields, right)

    def _lookup(self, raw: Mapping[str, Json], made: Callable[[Json], Verdict]) -> Lookup:
        fields = self._fields(raw["key"])
        elements = cast(Iterable[Sequence[Json]], self._elements(raw["data"]))
        name = raw["data"] if isinstance(raw["data"], str) else ""
        return Lookup(
            fields=fields,
            entries=tuple(
                (key_of(fields, key), verdict_of(name, key, value, made(value)))
                for key, value in elements
            ),
        )

    def _translation(self, kind: str, raw: Mapping[str, Json]) -> None:
        address, port = raw.get("addr"), raw.get("port")
        looked = address if isinstance(address, dict) and "map" in address else None

        def to(where: Json) -> Verdict:
            parts = parts_of(where)
            ports = parts[1] if len(parts) > 1 else port
            return Verdict(kind="dnat" if kind == "dnat" else "snat", to=place(parts[0], ports))

        if isinstance(port, dict) and "map" in port:
            raise Unknown
        if looked is not None:
            self.steps.append(self._lookup(cast(Mapping[str, Json], looked["map"]), to))
        else:
            self.steps.append(to(address))
