"""Names of the plugins' chains and sets are the plugins': netkit/ and runtime/ ask the plugin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from plugins.firewall.iptables import Iptables
from plugins.firewall.iptables.layout import CHAINS as OF_IPTABLES
from plugins.firewall.nftables import Nftables
from plugins.firewall.nftables.layout import CHAINS as OF_NFTABLES
from plugins.firewall.nftables.layout import SETS
from plugins.port_security import SETS as OF_LAN
from tests.places import ROOT

IPTABLES = re.compile(r"DOCKER(-.*)?")
# Names of sets that are words for other things as well.
COMMON = {"access", "bridges", "closed", "hairpin", "neighbours", "open", "ports"}
# Of the chains of nf_tables those whose names are no common words (forward, output, ...).
NFTABLES = {n for n in OF_NFTABLES if "-" in n}
NFTABLES |= {*SETS, *OF_LAN, *Nftables.layout.port_maps} - COMMON
# Docker and Kubernetes: their chains show which variant of iptables is in use.
EXCEPTIONS = {("netkit/kernel/firewall/detect_backend.py", r"^:(DOCKER|KUBE-)")}


def strings(text: str) -> Iterator[str]:
    """All but docstrings."""
    tree = ast.parse(text)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def names(text: str) -> set[str]:
    return {s for s in strings(text) if IPTABLES.fullmatch(s) or s in NFTABLES or "DOCKER|" in s}


def test_netkit_and_the_engine_name_no_chain_or_set_of_a_plugin() -> None:
    found = {
        (str(path.relative_to(ROOT)), name)
        for room in ("netkit", "runtime")
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in names(path.read_text())
    }
    assert found == EXCEPTIONS


@pytest.mark.parametrize(
    "line", ["X = ('DOCKER',)", "f'DOCKER-{d}'", "x == 'into-nat'", "SETS = {'ports', 'macs'}"]
)
def test_a_name_of_a_chain_or_set_is_found(line: str) -> None:
    assert names(line)


@pytest.mark.parametrize(
    ("chain", "endpoint"),
    [
        ("DOCKER-0123abcd-tcp", "0123abcd"),
        ("DOCKER-0123abcd-lotcp-8k", "0123abcd"),
        ("DOCKER", None),
        ("DOCKER-USER", None),
        ("DOCKER-FORWARD", None),
        ("DOCKER-0123", None),
        ("OTHER-0123abcd-tcp", None),
    ],
)
def test_chains_of_one_endpoint_are_known_by_its_id(chain: str, endpoint: str | None) -> None:
    assert Iptables().owns_chain(chain) == endpoint
    assert Nftables().owns_chain(chain) is None


def test_the_purposes_of_rules_are_about_chains_that_exist() -> None:
    for layout, chains in (
        (Iptables.layout, {name for _, name in OF_IPTABLES} | {"PREROUTING", "DOCKER-0123abcd-"}),
        (Nftables.layout, {*OF_NFTABLES, "access-0123456789ab"}),
    ):
        for pattern, verdict, _ in layout.purposes:
            assert any(layout.purpose(c, verdict) for c in chains if pattern.fullmatch(c)), pattern
