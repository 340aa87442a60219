"""Targets as clients of the overlay's process name them."""

from __future__ import annotations

from collections.abc import Sequence

from netkit.errors import NotFound
from netkit.overlay import verbs
from plugins.weave.overlay import Overlay
from plugins.weave.step import Address, Step


def connect(overlay: Overlay, peers: Sequence[verbs.Peer], now: float, *, only: bool) -> Step:
    """More targets; with `only` there are no others."""
    step = Step()
    wanted = {Address(peer.host, peer.port): peer.name for peer in peers}
    for former in [each for each in overlay.targets() if only and each not in wanted]:
        step += overlay.forget(former, now)
    for where, name in wanted.items():
        step += overlay.connect(where, now, name)
    return step


def forget(overlay: Overlay, names: Sequence[str], now: float) -> Step:
    """By address, with or without a port, or as the user wrote them.  NotFound."""
    targets = overlay.targets()
    found: dict[Address, None] = {}
    for text in names:
        meant = [at for at, name in targets.items() if text in (name, str(at), at.host)]
        if not meant:
            raise NotFound(f"{text} is no target: see `netkit weave status targets`")
        found |= dict.fromkeys(meant)
    step = Step()
    for at in found:
        step += overlay.forget(at, now)
    return step
