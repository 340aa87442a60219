"""Ports of EXPOSE, as Docker reads port specifications: [[ip:]host:]port[-port][/protocol]."""

from __future__ import annotations

from ipaddress import ip_address

from netkit.errors import InvalidSpec

_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})


def exposed(word: str) -> list[str]:
    """"80/tcp" and the like.  InvalidSpec in Docker's words."""
    *before, port = word.split(":")
    host = before[-1] if before else ""
    address = ":".join(before[:-1])
    if address and not _is_address(address):
        raise InvalidSpec(f"Invalid ip address: {address[:200]}")
    number, _, rest = port.partition("/")
    protocol = rest.partition("/")[0] or "tcp"
    if not number:
        raise InvalidSpec(f"No port specified: {word[:200]}<empty>")
    numbers = _range(number, "containerPort")
    if host and len(numbers) not in {1, len(_range(host, "hostPort"))}:
        raise InvalidSpec(
            f"Invalid ranges specified for container and host Ports: {number} and {host}"
        )
    if protocol.lower() not in _PROTOCOLS:
        raise InvalidSpec(f"Invalid proto: {protocol[:200]}")
    return [f"{n}/{protocol.lower()}" for n in numbers]


def _is_address(text: str) -> bool:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ip_address(bare)
    except ValueError:
        return False
    return True


def _range(text: str, what: str) -> range:
    first, dash, last = text.partition("-")
    ends = [first, last] if dash else [first, first]
    if not all(end.isascii() and end.isdigit() and len(end.lstrip("0")) <= 5 for end in ends):
        raise InvalidSpec(f"Invalid {what}: {text[:200]}")
    low, high = (int(end) for end in ends)
    if low > high or high > 65535:
        raise InvalidSpec(f"Invalid {what}: {text[:200]}")
    return range(low, high + 1)
