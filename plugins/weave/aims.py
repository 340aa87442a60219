"""Targets as clients of the overlay's process name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from netkit.errors import NotFound
from netkit.overlay import verbs
from plugins.weave.gathering import Outcome, gathered
from plugins.weave.overlay import Overlay
from plugins.weave.step import Address


def connect(overlay: Overlay, peers: Sequence[verbs.Peer], now: float, *, only: bool) -> Outcome:
    """More targets; with `only` there are no others."""
    wanted = {Address(peer.host, peer.port): peer.name for peer in peers}
    gone = [each for each in overlay.targets() if only and each not in wanted]
    return gathered([
        *(partial(overlay.forget, former, now) for former in gone),
        *(partial(overlay.connect, where, now, name) for where, name in wanted.items()),
    ])  # fmt: skip


def forget(overlay: Overlay, names: Sequence[str], now: float) -> Outcome:
    """By address, with or without a port, or as the user wrote them.  NotFound."""
    targets = overlay.targets()
    found: dict[Address, None] = {}
    for text in names:
        meant = [at for at, name in targets.items() if text in (name, str(at), at.host)]
        if not meant:
            raise NotFound(f"{text} is no target: see `netkit weave status targets`")
        found |= dict.fromkeys(meant)
    return gathered(partial(overlay.forget, at, now) for at in found)
