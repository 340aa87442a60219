"""What is found of the overlay, from what its process says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runtime.network.weave.findings import of_status, unchecked


def status(*, process: dict[str, Any] | None = None, ipam: dict[str, Any] | None = None,
           **more: Any) -> dict[str, Any]:  # fmt: skip
    overlay = {
        "warnings": [], "networks": [],
        "ipam": {"conflicts": [], "fenced": None, **(ipam or {})},
    }  # fmt: skip
    return {
        "Running": True, "Launched": True, "Warnings": [], "Status": {**overlay, **more},
        "Process": {"problems": [], "no_fastdp": "", **(process or {})},
    }  # fmt: skip


OFF = {"Running": False, "Launched": False, "Warnings": [], "Status": None, "Process": None}
CONFLICT = "10.32.0.1 is in use at h1: h2 has it, too, and gets nothing that is sent to it"
NETWORKS = [{"name": "lane", "conflicts": [CONFLICT]}, {"name": "other", "conflicts": ["x"]}]


@pytest.mark.parametrize("well", [status(), OFF, status(process={
    "no_fastdp": "it was launched with --no-fastdp"})])  # fmt: skip
def test_nothing_is_found_where_all_is_well_or_as_the_user_chose(well: dict[str, Any]) -> None:
    assert of_status(well, ["lane"]) == []


@pytest.mark.parametrize(
    ("ill", "words"),
    [
        ({**OFF, "Launched": True, "Warnings": ["the process: its database is damaged"]},
         "was launched and does not run; .* neither compared nor repaired .* database is damaged"),
        (status(ipam={"fenced": "out of reach: h2"}), r"cut off .* out of reach: h2: netkit weave"),
        (status(ipam={"conflicts": ["two ledgers"]}), "two ledgers"),
        (status(warnings=["another host has a copy"]), "another host has a copy"),
        (status(process={"problems": ["wt-1: another process has it"]}), "wt-1: another process"),
        (status(process={"no_fastdp": "there is no nf_tables"}), "sleeve: there is no nf_tables"),
        (status(networks=NETWORKS), "network lane: 10.32.0.1 is in use at h1: .* another address"),
        ({**status(), "Warnings": ["container web: 10.32.0.7 is in use at h2"]}, "in use at h2"),
    ],
)  # fmt: skip
def test_each_problem_is_one_line(ill: dict[str, Any], words: str) -> None:
    (line,) = of_status(ill, ["lane"])
    assert re.search(words, line), line


def test_a_table_that_nobody_restores_leaves_networks_open() -> None:
    line = unchecked(["b", "a"], "absent", running=False)
    assert "frames to a, b, is gone, and the overlay's process" in line
    assert "changed by another tool, and does not come back" in unchecked(
        ["a"], "changed", running=True
    )
