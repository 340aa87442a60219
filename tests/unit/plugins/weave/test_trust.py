"""Where data may go in clear."""

from __future__ import annotations

import ipaddress

import pytest

from plugins.weave.identity import PeerId
from plugins.weave.step import Address, Relayed
from plugins.weave.trust import Trust

SUBNETS = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("where", "needed"),
    [
        (Address("192.0.2.7", 6783), False),
        (Address("192.0.3.7", 6783), True),
        (Address("2001:db8::7", 6783), False),
        (Address("::ffff:192.0.2.7", 6783), False),
        (Address("::ffff:192.0.3.7", 6783), True),
        (Address("fe80::1%eth0", 6783), True),
        (Address("", 6783), True),
        (Relayed(PeerId(bytes(16))), True),
    ],
)
def test_with_a_password_trusted_subnets_alone_are_exempt(
    where: Address | Relayed, needed: bool
) -> None:
    assert Trust(True, SUBNETS).needs_sealing(where) == needed
    assert Trust(True).needs_sealing(where)
    assert Trust(False).needs_sealing(where) == isinstance(where, Relayed)
