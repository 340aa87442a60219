"""Find leftovers of other firewall back ends by their marks, and delete them.

Only rules with our comment, chains that are empty without them, and our own nf_tables table go.
A chain that holds a foreign rule, or that a foreign rule jumps to, stays: DOCKER-USER with the
administrator's rules above all.  Legacy tables that only we created stay too, empty:
the kernel cannot delete them while the namespace exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from netkit.kernel.firewall import detect_backend
from netkit.kernel.firewall.detect_backend import TABLE, Backend
from netkit.kernel.iptables import nft_compat, tools
from netkit.kernel.iptables.rules import Rules
from netkit.kernel.iptables.tools import Variant
from netkit.kernel.netlink.codec import Request, Tally, string
from netkit.kernel.session import Session
from netkit.model import Chain, Resource, Rule
from netkit.reconcile.plan import Op

DELTABLE = nft_compat.SUBSYSTEM | 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """Leftovers of one back end."""

    backend: Backend
    rules: tuple[Rule, ...] = ()
    chains: tuple[Chain, ...] = ()
    table: bool = False  # our own

    def __bool__(self) -> bool:
        return bool(self.rules or self.chains or self.table)

    def __str__(self) -> str:
        if self.table:
            return f"{self.backend}: table {TABLE}"
        return f"{self.backend}: {len(self.rules)} rules, {len(self.chains)} chains"


def find(
    home: str, chosen: Backend | None, prefix: str, chains: tuple[str, ...]
) -> tuple[Leftovers, ...]:
    """Find what is ours in every back end but the chosen one; None is no firewall at all.

    `prefix` begins the marks of this engine, `chains` are beginnings of the names of its chains.
    """
    found = [
        _of_iptables(home, v, prefix, chains)
        for v in get_args(Variant)
        if chosen != f"iptables-{v}" and tools.installed(f"iptables-{v}-save")
    ]
    if chosen != "nftables" and detect_backend.native(home).startswith(prefix):
        found.append(Leftovers(backend="nftables", table=True))
    return tuple(f for f in found if f)


def remove(home: str, found: Iterable[Leftovers]) -> None:
    """Delete them, one commit a table.  KernelError if that fails; `find` finds them again."""
    for each in found:
        if each.table:
            _drop_table(home)
            continue
        variant: Variant = "legacy" if each.backend == "iptables-legacy" else "nft"
        doomed: list[Resource] = [*each.rules, *each.chains]
        with Session(home, Tally()) as session:
            rules = Rules(home, variant)
            try:
                rules.apply(session, [Op(r, None) for r in doomed])
            finally:
                rules.close()


def _of_iptables(home: str, variant: Variant, prefix: str, names: tuple[str, ...]) -> Leftovers:
    backend: Backend = "iptables-legacy" if variant == "legacy" else "iptables-nft"
    with Session(home, Tally()) as session:
        seen = Rules(home, variant, names, f"{prefix}global").owned(session, prefix)
    rules = tuple(r for r in seen.values() if isinstance(r, Rule))
    # Where no rule is ours, nor is an empty chain that happens to be called DOCKER.
    tables = {(r.family, r.table) for r in rules}
    chains = tuple(
        r for r in seen.values() if isinstance(r, Chain) and (r.family, r.table) in tables
    )
    return Leftovers(backend=backend, rules=rules, chains=chains)


def _drop_table(home: str) -> None:
    with Session(home, Tally()) as session:
        none = nft_compat.HEADER.pack(0, 0, nft_compat.SUBSYSTEM_NUMBER)
        head = nft_compat.HEADER.pack(nft_compat.FAMILIES[4], 0, 0)
        doomed = Request(DELTABLE, head + string(detect_backend.TABLE_NAME, TABLE))
        begin, end = (Request(n, none) for n in (nft_compat.BATCH_BEGIN, nft_compat.BATCH_END))
        reply = session.nftables().transaction([begin, doomed, end])
        reply.check(f"delete the nf_tables table {TABLE}")
