"""Hints come for what others do."""

from __future__ import annotations

import asyncio

import pytest

from netkit.kernel.watch import Hint, watch

pytestmark = pytest.mark.root


def test_changes_by_others_are_hinted_at_with_their_owner(lab):
    lab.run("ip", "link", "add", "br7", "type", "bridge")
    lab.run("ip", "link", "set", "br7", "alias", "netkit:0:x")
    hints: list[Hint] = []

    async def look() -> None:
        async for hint in watch(lab.home):
            hints.append(hint)
            if hint.event == "RTM_DELLINK":
                return

    async def both() -> None:
        looking = asyncio.create_task(look())
        await asyncio.sleep(0.5)
        for command in (
            "link set br7 up",
            "addr add 10.1.1.1/24 dev br7",
            "addr del 10.1.1.1/24 dev br7",
            "link del br7",
        ):
            await asyncio.to_thread(lab.run, "ip", *command.split())
        await asyncio.wait_for(looking, 10)

    asyncio.run(both())
    mine = {h.event for h in hints if h.key == ("link", "", "br7") and h.owner == "netkit:0:x"}
    assert mine >= {"RTM_NEWLINK", "RTM_NEWADDR", "RTM_DELADDR", "RTM_DELLINK"}
