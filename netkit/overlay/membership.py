"""Read all of what the overlay's process knows of endpoints elsewhere and of added names."""

from __future__ import annotations

import msgspec

from netkit.errors import KernelError
from netkit.overlay.client import Channel
from netkit.overlay.verbs import Host, Members, Membership

PARTS = 64  # at most: a process that never comes to an end is faulty


def read(channel: Channel) -> Membership:
    """In one piece.  What changes meanwhile may be in it or not: an event `members` follows.

    KernelError: the process ended, or answers nonsense.
    """
    hosts: dict[str, Host] = {}
    parts: list[Membership] = []
    after = ""
    for _ in range(PARTS):
        try:
            part = msgspec.convert(channel.call(Members(after=after)), Membership)
        except msgspec.ValidationError as error:
            raise KernelError(f"the weave overlay answers nonsense: {error}") from None
        hosts |= {host.id: host for host in part.hosts}
        parts.append(part)
        after = part.after
        if not after:
            return Membership(
                hosts=tuple(hosts.values()),
                members=tuple(member for each in parts for member in each.members),
                names=tuple(name for each in parts for name in each.names),
            )
    raise KernelError("the weave overlay does not come to an end with its members")
