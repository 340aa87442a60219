"""docs/firewall.md says what is in the kernel."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from netkit.driver import Firewall
from plugins.firewall.iptables import Iptables
from plugins.firewall.nftables import Nftables
from tests.netns.conftest import fresh_lab
from tests.reach.document import (
    Blocks,
    added,
    answers,
    iptables_blocks,
    nft_blocks,
    page,
)
from tests.reach.situations import SITUATIONS, Situation
from tests.reach.town import town

pytestmark = pytest.mark.root
DOCUMENT = Path(__file__).parents[2] / "docs" / "firewall.md"
UPDATE = bool(os.environ.get("NETKIT_UPDATE_GOLDEN"))


def test_the_page_on_the_firewall_shows_the_rules_of_today(tmp_path: Path) -> None:
    parts: list[tuple[Situation, Blocks, Blocks, list[str]]] = []
    seen: list[tuple[Blocks, Blocks]] = [({}, {})]  # then docker0, then a plain network
    for n, s in enumerate(SITUATIONS):
        folder = tmp_path / str(n)
        tables, explained = live(folder / "iptables", s, native=False)
        native, _ = live(folder / "nftables", s, native=True)
        base = seen[0 if n == 0 else 2 if s.plain and n > 1 else 1]
        parts.append((s, added(tables, base[0]), added(native, base[1]), explained))
        seen.append((tables, native))
    made = page(parts)
    if UPDATE:
        DOCUMENT.write_text(made)
    assert DOCUMENT.read_text() == made, "docs/firewall.md is stale: NETKIT_UPDATE_GOLDEN=1"


def live(folder: Path, s: Situation, *, native: bool) -> tuple[Blocks, list[str]]:
    folder.mkdir(parents=True)
    same = random.Random(1)  # the order of rules of one rank follows from ids
    firewall: Firewall = Nftables() if native else Iptables()
    with (
        fresh_lab() as lab,
        town(
            lab, s.world, firewall, lab.host("nft"), folder, filtered=False, random=same.getrandbits
        ) as t,
    ):
        return (nft_blocks(t), []) if native else (iptables_blocks(t), answers(t, s))
