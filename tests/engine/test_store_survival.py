"""A short form of `make torture-store`: kills, power cuts and a full disk; nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable

import pytest

from tests.engine.conftest import missing
from tests.engine.daemon import netkit_only
from tests.torture.store.run import Report, cuts, fills, kills

ROUNDS = int(os.environ.get("NETKIT_TEST_STORE_ROUNDS", "3"))
SEED = int(os.environ.get("NETKIT_TEST_STORE_SEED", "11"))

pytestmark = [
    pytest.mark.root,
    pytest.mark.engine,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    netkit_only("its store is not held to this"),
]


@pytest.mark.parametrize("experiment", [kills, cuts, fills])
def test_what_was_acknowledged_is_there_and_nothing_else_is(
    experiment: Callable[[int, random.Random, Callable[[str], None]], Report],
) -> None:
    if experiment is cuts and not shutil.which("mkfs.xfs"):
        pytest.skip("needs mkfs.xfs (Debian package xfsprogs)")
    report = experiment(ROUNDS, random.Random(SEED), print)
    assert report.acknowledged > ROUNDS
    assert report.checked
