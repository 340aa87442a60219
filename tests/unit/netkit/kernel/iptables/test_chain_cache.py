"""What was read of chains is used again only while the kernel has the same generation of rules."""

from __future__ import annotations

from typing import Any, cast

import pytest

from netkit.kernel.iptables import chain_cache, nft_compat
from netkit.kernel.iptables.chain_cache import MANY, ChainCache
from netkit.kernel.iptables.nft_compat import RawRule
from netkit.kernel.netlink.codec import Netlink

FILTER, NAT = (4, "filter"), (4, "nat")
NETLINK = cast(Netlink, None)  # it is asked by `nft_compat` alone


class Kernel:
    """Tables of chains of rules, known by their handles."""

    def __init__(self) -> None:
        self.rules: dict[str, dict[str, list[int]]] = {
            "filter": {"FORWARD": [1], "DOCKER": [2, 3], "DOCKER-CT": []},
            "nat": {"DOCKER": [4]},
        }
        self.asked: list[tuple[str, str | None]] = []  # tables, with the chain

    def list_rules(self, _: Any, family: int, table: str, chain: str | None = None) -> Any:
        self.asked.append((table, chain))
        chains = self.rules.get(table, {})
        return [
            RawRule(table=table, chain=name, target=None, handle=handle, comment=b"")
            for name, handles in chains.items()
            if chain in {None, name}
            for handle in handles
        ]

    def list_chains(self, _: Any, family: int, table: str) -> list[str]:
        self.asked.append((table, "names"))
        return [*self.rules.get(table, {})]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(nft_compat, "rules", kernel.list_rules)
    monkeypatch.setattr(nft_compat, "chains", kernel.list_chains)
    return kernel


def read(
    cache: ChainCache, place: tuple[int, str], names: list[str] | None, now: int
) -> dict[str, list[int]]:
    found = cache.read(NETLINK, place, names, now)
    return {name: [e.handle for e in entries] for name, entries in found.items()}


def test_a_table_is_read_once_a_generation(kernel: Kernel) -> None:
    cache = ChainCache()
    for _ in range(2):
        assert read(cache, FILTER, None, 7) == kernel.rules["filter"]
        assert read(cache, FILTER, ["DOCKER"], 7) == {"DOCKER": [2, 3]}
    assert kernel.asked == [("filter", None), ("filter", "names")]
    kernel.rules["filter"]["DOCKER"] = [3]
    assert read(cache, FILTER, ["DOCKER"], 8) == {"DOCKER": [3]}
    assert kernel.asked[2:] == [("filter", "DOCKER")]


def test_after_a_change_of_ours_its_chains_alone_are_read_again(kernel: Kernel) -> None:
    cache = ChainCache()
    read(cache, FILTER, None, 7)
    read(cache, NAT, None, 7)
    del kernel.asked[:]
    kernel.rules["filter"]["DOCKER-CT"] = [9]
    cache.changed(7, {FILTER: {"DOCKER-CT"}})
    assert read(cache, FILTER, None, 8) == kernel.rules["filter"]
    assert read(cache, NAT, None, 8) == kernel.rules["nat"]
    assert kernel.asked == [("filter", "DOCKER-CT")]


def test_after_a_change_of_another_tool_beside_ours_all_is_read_again(kernel: Kernel) -> None:
    cache = ChainCache()
    read(cache, FILTER, None, 7)
    del kernel.asked[:]
    cache.changed(7, {FILTER: {"DOCKER-CT"}})
    kernel.rules["filter"]["FORWARD"] = []
    assert read(cache, FILTER, None, 9) == kernel.rules["filter"]
    assert kernel.asked == [("filter", None), ("filter", "names")]


def test_what_was_read_at_another_generation_is_not_taken_over(kernel: Kernel) -> None:
    cache = ChainCache()
    read(cache, FILTER, None, 6)
    cache.changed(7, {FILTER: {"DOCKER"}})
    kernel.rules["filter"]["FORWARD"] = []
    assert read(cache, FILTER, None, 8) == kernel.rules["filter"]


def test_the_generation_is_never_zero(kernel: Kernel) -> None:
    cache = ChainCache()
    last = chain_cache.WRAP - 1
    read(cache, FILTER, None, last)
    del kernel.asked[:]
    cache.changed(last, {})
    assert read(cache, FILTER, None, 1) == kernel.rules["filter"]
    assert kernel.asked == []


def test_a_chain_that_is_not_there_is_not_made_up(kernel: Kernel) -> None:
    cache = ChainCache()
    others = {"FORWARD": [], "DOCKER-CT": []}
    assert read(cache, FILTER, ["DOCKER", "DOCKER-X"], 7) == {"DOCKER": [2, 3], **others}
    assert read(cache, FILTER, ["DOCKER-X"], 7) == {"DOCKER": [], **others}
    assert read(cache, FILTER, ["OUTPUT"], 7) == {}
    assert read(cache, (4, "raw"), ["PREROUTING"], 7) == {}
    assert read(cache, (4, "raw"), None, 7) == {}


def test_what_is_returned_is_the_callers(kernel: Kernel) -> None:
    cache = ChainCache()
    cache.read(NETLINK, FILTER, None, 7)["DOCKER"].clear()
    assert read(cache, FILTER, None, 7) == kernel.rules["filter"]


def test_many_chains_are_read_with_the_whole_table(kernel: Kernel) -> None:
    names = [f"DOCKER-{n}" for n in range(MANY + 1)]
    kernel.rules["filter"] = {name: [n] for n, name in enumerate(names)}
    assert read(ChainCache(), FILTER, names, 7) == kernel.rules["filter"]
    assert kernel.asked == [("filter", None), ("filter", "names")]


def test_a_rule_that_nft_put_in_its_own_words_is_none_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mark = b"netkit:0:aaaaaaaaaaaa 0123456789abcdef\0"

    def listed(*_: Any) -> list[RawRule]:
        return [
            RawRule("filter", "DOCKER", None, n, mark, native=native)
            for n, native in ((1, False), (2, True))
        ]

    monkeypatch.setattr(nft_compat, "rules", listed)
    found = ChainCache().read(NETLINK, FILTER, ["DOCKER"], 7)["DOCKER"]
    assert [(e.handle, e.owner) for e in found] == [(1, "netkit:0:aaaaaaaaaaaa"), (2, None)]
