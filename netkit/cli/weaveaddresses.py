"""Addresses as weave's users write them.  Pure.

The grammar is the daemon's (`netkit.network.address_requests`), which refuses what is wrong; here
they are distinguished from other words.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ADDRESSES = "ADDR is A.B.C.D/LEN, or net:A.B.C.D/LEN or net:default for any of that subnet."
# With a length; of IPv6 only what no reference of an image looks like ("abc:5000/64").
LITERAL = re.compile(r"\d+(\.\d+){3}/\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*/\d+", re.IGNORECASE)


def looks_like_one(word: str) -> bool:
    return word.startswith(("ip:", "net:")) or bool(LITERAL.fullmatch(word)) or is_ip(word)


def is_ip(word: str) -> bool:
    """Whether it is an IP address without a length."""
    try:
        ip_address(word)
    except ValueError:
        return False
    return True


def without_lengths(addresses: Iterable[str]) -> str:
    """Return them as weave prints them: "10.2.1.3 10.2.2.3"."""
    return " ".join(each.partition("/")[0] for each in addresses)
