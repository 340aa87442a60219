"""Validate names of containers, and generate one where none is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from netkit.errors import InvalidSpec

_RULE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_QUALITIES = (
    "able agile amber ample apt azure bold brave breezy bright brisk calm candid cheery clear "
    "clever cosy crisp deft eager early easy fair fast fine firm fleet fond frank fresh gentle "
    "glad golden good grand green handy happy hardy hazel honest jolly keen kind lively loyal "
    "lucid lucky mellow merry mighty mild modest neat nimble noble patient plucky polite proud "
    "quick quiet rapid ready rosy round serene sharp silver smart snug sober solid sound spry "
    "stable steady still stout subtle sunny sure swift tender tidy true trusty vivid warm wise"
).split()
_THINGS = (
    "adapter anchor antenna arp backbone backhaul beacon bridge broker buffer bus cable carrier "
    "channel chassis circuit cluster codec conduit cipher daemon datagram domain duplex endpoint "
    "ether fabric fiber fibre filter firewall flow frame gateway handshake header host hub "
    "jumper kernel lane latch link loopback mesh modem mux nameserver node octet orbit overlay "
    "packet patch payload peer pipe port prefix probe proxy queue rack radio relay ring router "
    "segment server signal sled socket spine splice subnet switch tap tether token topology "
    "tower trace trunk tunnel uplink veth vlan wire"
).split()


def validate(name: str) -> str:
    """The name without its slash; InvalidSpec if Docker's rule forbids it."""
    bare = name.removeprefix("/")
    if not _RULE.fullmatch(bare):
        raise InvalidSpec(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return bare


def generate(random: Random, free: Callable[[str], bool]) -> str:
    """Generate an unused name like "calm_bridge"."""
    for attempt in range(1000):
        name = f"{random.choice(_QUALITIES)}_{random.choice(_THINGS)}"
        if attempt >= 5:
            name += str(random.randrange(10 ** (1 + attempt // 50)))
        if free(name):
            return name
    raise InvalidSpec("found no free container name; give one with --name")
