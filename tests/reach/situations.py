"""The situations that docs/firewall.md shows, each with its explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.reach.model import Box, Link, Net, Port, Rule, World
from tests.reach.town import LAN

A = IPv4Address
FAR = A("198.51.100.9")


@dataclass(frozen=True, kw_only=True)
class Situation:
    title: str
    words: str
    world: World
    asked: Sequence[tuple[str, str, str]] = ()  # what `netkit fw explain` is asked

    @property
    def plain(self) -> bool:
        """Its network is like that of the second situation, to which it adds."""
        return self.world.nets == {"one": net()}


def world(
    *boxes: Box, nets: Sequence[Net] = (), ports: Sequence[Port] = (),
    links: Sequence[Link] = (), rules: Sequence[Rule] = (),
) -> World:  # fmt: skip
    return World(
        host=(LAN,),
        nets={n.name: n for n in nets},
        boxes={b.name: b for b in boxes},
        ports=tuple(ports),
        links=tuple(links),
        rules=tuple(rules),
        outside={FAR: "far"},
    )


def net(**more: object) -> Net:
    return Net(name="one", cidr=IPv4Network("172.20.1.0/24"), **more)  # type: ignore[arg-type]


def box(name: str, last: int) -> Box:
    return Box(name=name, homes={"one": A(f"172.20.1.{last}")}, default="one")


WEB, MATE = box("web", 2), box("mate", 3)
NEIGHBOUR = f"lan:{FAR}@lan0"

SITUATIONS = (
    Situation(
        title="Only docker0",
        words="""
The chains, and the default network without containers. In `FORWARD`, `DOCKER-USER` comes first: it
is the administrator's, and never edited. `DOCKER-FORWARD` then asks, in this order: access rules
(`DOCKER-ACCESS`), internal networks (`DOCKER-INTERNAL`), answers (`DOCKER-CT`), what goes into a
bridge (`DOCKER-BRIDGE`, then `DOCKER`), and at last what leaves one. What goes into a bridge from
elsewhere is dropped unless a rule before says otherwise. The policy of `FORWARD` is not ours.

The native table holds the same in rules that never change; networks, containers and ports are
elements of its sets and maps.
""",
        world=world(),
    ),
    Situation(
        title="A network of the user's",
        words="""
`netkit net create one`: the same again for its bridge. Containers reach each other, the host and
the world; only the host reaches them, neither from another network of ours nor by routing.
""",
        world=world(WEB, nets=[net()]),
        asked=[(NEIGHBOUR, "web", "80")],
    ),
    Situation(
        title="A published port",
        words="""
`netkit run -p 8080:80`: one rule that translates (`nat DOCKER`), one that lets through what was
translated (`filter DOCKER`). With the second, a packet that was addressed to the container itself
still is refused.
""",
        world=world(WEB, nets=[net()], ports=[Port(box="web", net="one", inside=80, outside=8080)]),
        asked=[(NEIGHBOUR, str(LAN), "8080"), (NEIGHBOUR, "web", "80")],
    ),
    Situation(
        title="A range of ports",
        words="""
`-p 8000-8009:8000-8009`: as many rules as for one port. A range that is shifted
(`-p 9000-9002:8000-8002`) takes a rule or an element for each port: one for all of them would be
a pool, from which the kernel may take a neighbouring port where two flows of a client clash.
Letting in what was translated is one rule again.
""",
        world=world(
            WEB,
            nets=[net()],
            ports=[
                *(Port(box="web", net="one", inside=n, outside=n) for n in range(8000, 8010)),
                *(
                    Port(box="web", net="one", inside=n, outside=n + 1000)
                    for n in range(8000, 8003)
                ),
            ],
        ),
    ),
    Situation(
        title="A port on loopback, a port on one address",
        words="""
`-p 127.0.0.1:8181:80` is translated only for clients on the host: no neighbour can aim at it, for
`PREROUTING` never looks at it. `-p 198.51.100.1:8282:80` is for this address alone.
""",
        world=world(
            WEB,
            nets=[net()],
            ports=[
                Port(box="web", net="one", inside=80, outside=8181, ip=A("127.0.0.1")),
                Port(box="web", net="one", inside=80, outside=8282, ip=LAN),
            ],
        ),
        asked=[("host", "127.0.0.1", "8181"), (NEIGHBOUR, "127.0.0.1", "8181")],
    ),
    Situation(
        title="icc=false and a link",
        words="""
`-o com.docker.network.bridge.enable_icc=false`, and `mate` started with `--link web`, which exposes
80. Neighbours are isolated at the bridge (`bridge link set isolated on`), and what takes the detour
by the host is dropped, but for the linked pair on that port, and its answers.

No container can pose as another. Senders that are let through are known by IP and MAC address; the
bridge takes from a port only what is sent from its container's MAC address (`locked on`, and a
static, sticky entry in its forwarding table); the host sends no ARP request for them. That a
packet belongs to a flow proves nothing either: only `web` answers what was let in.
""",
        world=world(
            WEB,
            MATE,
            nets=[net(icc=False)],
            links=[Link(parent="mate", child="web", net="one", port=80)],
        ),
        asked=[("mate", "web", "80"), ("mate", "web", "81")],
    ),
    Situation(
        title="An internal network",
        words="""
`--internal`: nothing in, nothing out, by interface and not by address, for a source address can be
forged. The host itself still reaches its containers.
""",
        world=world(WEB, MATE, nets=[net(mode="internal")]),
        asked=[(NEIGHBOUR, "web", "80"), ("mate", "web", "80")],
    ),
    Situation(
        title="A routed network",
        words="""
`-o com.docker.network.bridge.gateway_mode_ipv4=routed`: nothing is translated. Published ports are
open at the container's own address, and it can be pinged.
""",
        world=world(
            WEB,
            nets=[net(mode="routed")],
            ports=[Port(box="web", net="one", inside=80, outside=8080)],
        ),
        asked=[(NEIGHBOUR, "web", "80"), (NEIGHBOUR, "web", "81")],
    ),
    Situation(
        title="Rules by address",
        words="""
`netkit fw drop --src 198.51.100.9 --to web --port 8080/tcp`, in terms of the published port, and
`netkit fw accept --src 172.20.1.3 --to web`. They come before answers are let through: what is
dropped goes silent at once.
""",
        world=world(
            WEB,
            MATE,
            nets=[net()],
            ports=[Port(box="web", net="one", inside=80, outside=8080)],
            rules=[
                Rule(
                    box="web",
                    verdict="drop",
                    source=IPv4Network(FAR),
                    proto="tcp",
                    first=8080,
                    last=8080,
                    published=True,
                ),
                Rule(box="web", verdict="accept", source=IPv4Network("172.20.1.3/32")),
            ],
        ),
        asked=[(NEIGHBOUR, str(LAN), "8080")],
    ),
)
