"""Values, keys and verdicts as `nft -j` writes them.  Pure; source: libnftables-json(5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import cast

from netkit.diagnose.explain.ruleset import PROTOCOLS, Element, Key, To, Verdict, mac_number

TYPES = frozenset({"local", "unicast", "broadcast", "multicast"})
NUMBERS = {**PROTOCOLS, "ip": 4}
Json = object


class Unknown(Exception):
    """An expression that is not evaluated here."""


class OtherFamily(Exception):
    """A condition that no IPv4 packet fulfils."""


def verdict_of(name: str, key: Json, value: Json, verdict: Verdict) -> Verdict:
    """The verdict with the words of the element it came from."""
    element = words_of(name, key, value)
    return replace(verdict, entry=element.words, comment=element.comment)


def words_of(name: str, key: Json, value: Json = None) -> Element:
    """The element `key`, or `key : value`, of the set or map `name`."""
    elem = key.get("elem") if isinstance(key, dict) else None
    comment = str(elem.get("comment", "")) if isinstance(elem, dict) else ""
    shown = spoken(elem["val"] if isinstance(elem, dict) else key)
    what = f"{shown} : {spoken(value)}" if value is not None else shown
    return Element(f"{name} {{ {what} }}".strip(), comment)


def place(address: Json, port: Json) -> To:
    ends: tuple[IPv4Address, IPv4Address] | None = None
    if address is not None:
        low, high = span("dst", address)
        ends = IPv4Address(low), IPv4Address(high)
    return To(addresses=ends, ports=span("dport", port) if port is not None else (0, 0))


def parts_of(value: Json) -> list[Json]:
    if isinstance(value, dict) and "concat" in value:
        return list(value["concat"])
    return [value]


def key_of(fields: tuple[str, ...], element: Json) -> tuple[Key, ...]:
    if isinstance(element, dict) and "elem" in element:
        element = cast(Mapping[str, Json], element["elem"])["val"]
    parts = parts_of(element)
    if len(parts) != len(fields):
        raise Unknown
    return tuple(map(part_of, fields, parts))


def part_of(name: str, value: Json) -> Key:
    if name in {"iif", "oif"}:
        return str(value)
    if name in {"ct", "ct direction", "src type", "dst type", "nfproto"}:
        if name.endswith("type") and value not in TYPES:
            raise Unknown
        return frozenset({str(value)})
    return span(name, value)


def span(name: str, value: Json) -> tuple[int, int]:
    if isinstance(value, dict) and "range" in value:
        low, high = value["range"]
        return span(name, low)[0], span(name, high)[1]
    if isinstance(value, dict) and "prefix" in value:
        net = IPv4Network((value["prefix"]["addr"], value["prefix"]["len"]))
        return int(net[0]), int(net[-1])
    if value == "*":
        return 0, 2**32 - 1
    exact = number(value)
    return exact, exact


def number(value: Json) -> int:
    if isinstance(value, int):
        return value
    text = str(value)
    if text in NUMBERS:
        return NUMBERS[text]
    if text in {"echo-request", "echo-reply"}:
        return 8 if text == "echo-request" else 0
    if ":" in text:
        return mac_number(text)
    return int(IPv4Address(text)) if "." in text else int(text, 0)


def word(value: Json, key: str) -> str:
    return str(cast(Mapping[str, Json], value)[key])


def verdict(value: Json) -> Verdict:
    ((kind, what),) = cast(Mapping[str, Json], value).items()
    match kind:
        case "jump" | "goto":
            return Verdict(kind="jump" if kind == "jump" else "goto", chain=word(what, "target"))
        case "accept":
            return Verdict(kind="accept")
        case "drop":
            return Verdict(kind="drop")
        case "reject":
            return Verdict(kind="reject")
        case "return":
            return Verdict(kind="return")
        case "continue":
            return Verdict(kind="pass")
    raise Unknown(kind)


def spoken(value: Json) -> str:
    """A value in nft's own words; JSON where we have none."""
    match value:
        case None:
            return ""
        case str() | int():
            return str(value)
        case {"concat": list(parts)}:
            return " . ".join(map(spoken, parts))
        case {"range": [low, high]}:
            return f"{spoken(low)}-{spoken(high)}"
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"jump": {"target": chain}}:
            return f"jump {chain}"
        case {"goto": {"target": chain}}:
            return f"goto {chain}"
        case {**one} if len(one) == 1 and None in one.values():  # accept, drop, return, continue
            return str(next(iter(one)))
    return json.dumps(value, separators=(",", ":"))


def verbatim(plain: str) -> dict[tuple[str, int], str]:
    """Rules as `nft -a list` prints them, by table and handle."""
    out: dict[tuple[str, int], str] = {}
    where = ""
    for line in plain.splitlines():
        if line.startswith("table "):
            where = " ".join(line.split()[1:3])
        text, mark, handle = line.rpartition(" # handle ")
        if mark and not text.endswith("{"):
            out[where, int(handle)] = text.strip()
    return out
