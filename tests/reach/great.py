"""The world in which all pairs are probed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from tests.reach.model import Box, Link, Net, Port, Rule, World
from tests.reach.town import LAN

A = IPv4Address
FAR, NEAR = A("198.51.100.9"), A("198.51.100.10")
LOOPBACK = A("127.0.0.1")
SERVED = (("tcp", 80), ("tcp", 99), ("udp", 80))  # by every container and neighbour
OWN = 7777  # the host's own service


def _net(name: str, number: int, **more: object) -> Net:
    return Net(name=name, cidr=IPv4Network(f"172.20.{number}.0/24"), **more)  # type: ignore[arg-type]


def the_world(*, filtered: bool) -> World:
    nets = (
        _net("one", 1), _net("two", 2), _net("apart", 3, icc=False), _net("in", 4, mode="internal"),
        _net("inapart", 5, mode="internal", icc=False), _net("iso", 6, mode="isolated"),
        _net("way", 7, mode="routed"), _net("open", 8, mode="nat-unprotected"),
        _net("alone", 9, icc=False),
    )  # fmt: skip
    homes: dict[str, dict[str, int]] = {
        "web": {"one": 2}, "mate": {"one": 3}, "both": {"one": 4, "two": 4}, "other": {"two": 2},
        "db": {"apart": 2}, "app": {"apart": 3}, "lone": {"apart": 4},
        "in1": {"in": 2}, "in2": {"in": 3}, "mixed": {"in": 4, "way": 4},
        "ia1": {"inapart": 2}, "ia2": {"inapart": 3}, "ia3": {"inapart": 4},
        "iso1": {"iso": 2}, "iso2": {"iso": 3},
        "way1": {"way": 2}, "way2": {"way": 3}, "free": {"open": 2}, "free2": {"open": 3},
        "al1": {"alone": 2}, "al2": {"alone": 3},
    }  # fmt: skip
    by_name = {
        n.name: n if n.icc else Net(name=n.name, cidr=n.cidr, mode=n.mode, icc=False,
                                    filtered=filtered)
        for n in nets
    }  # fmt: skip
    boxes = [
        Box(
            name=name,
            homes={n: by_name[n].cidr[last] for n, last in where.items()},
            default=next((n for n in where if not by_name[n].closed), ""),
        )
        for name, where in homes.items()
    ]
    return World(
        host=(LAN, *(n.gateway for n in nets if n.mode != "isolated")),
        nets=by_name,
        boxes={b.name: b for b in boxes},
        ports=(
            Port(box="web", net="one", inside=80, outside=8080),
            Port(box="web", net="one", inside=80, outside=8053, proto="udp"),
            Port(box="web", net="one", inside=80, outside=8181, ip=LOOPBACK),
            Port(box="web", net="one", inside=80, outside=8153, ip=LOOPBACK, proto="udp"),
            Port(box="web", net="one", inside=99, outside=8282, ip=LAN),
            Port(box="both", net="one", inside=80, outside=8383),
            Port(box="db", net="apart", inside=80, outside=8484),
            Port(box="way1", net="way", inside=80, outside=0),
            Port(box="free", net="open", inside=80, outside=8585),
            Port(box="other", net="two", inside=99, outside=8686),
            Port(box="al1", net="alone", inside=80, outside=8787),
        ),
        links=(
            Link(parent="app", child="db", net="apart", port=80),
            Link(parent="app", child="db", net="apart", port=80, proto="udp"),
            Link(parent="ia1", child="ia2", net="inapart", port=80),
        ),
        rules=(
            Rule(box="web", verdict="drop", source=IPv4Network(NEAR), proto="tcp",
                 first=8080, last=8080, published=True),
            Rule(box="mate", verdict="accept", source=IPv4Network(FAR), proto="tcp",
                 first=90, last=99),
            Rule(box="free", verdict="accept", source=IPv4Network("172.20.2.2/32")),
            Rule(box="free", verdict="drop", source=IPv4Network("172.20.2.0/24")),
            Rule(box="other", verdict="drop", source=IPv4Network(FAR)),
            # More sources than are a rule each: an address set.
            Rule(box="both", verdict="drop", source=IPv4Network(NEAR),
                 more=tuple(IPv4Network(f"192.0.2.{n}/32") for n in range(1, 40, 2))),
            Rule(box="in2", verdict="drop", source=IPv4Network("172.20.4.2/32"), proto="tcp",
                 first=80, last=80),
            Rule(box="way2", verdict="drop", source=IPv4Network("172.20.7.2/32")),
        ),
        outside={FAR: "far", NEAR: "near"},
    )  # fmt: skip


def shown(w: World, who: str) -> str:
    """Return the name that an explanation gives to the receiver of a packet."""
    if who in w.boxes:
        return f"container {who}"
    return {"": "", "host": "the host"}.get(who, "the outside by lan0")


def at(w: World, who: IPv4Address | str) -> IPv4Address:
    """Return the address of a container on its first network."""
    return next(iter(w.boxes[who].homes.values())) if isinstance(who, str) else who
