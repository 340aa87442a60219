"""The short form of `make torture-docker`: what dies is started again, and promises are kept."""

from __future__ import annotations

import pytest

from tests.engine.daemon import KIND
from tests.torture.plugin import storm

pytestmark = pytest.mark.skipif(KIND == "dockerd", reason="it is about netkitd beside dockerd")


def test_a_few_kills_of_netkitd_dockerd_containerd_and_conmon() -> None:
    found = storm(5, 11, "--live-restore", pause=(0.3, 1.5))
    assert found.failures == []
    assert found.done["done"] > 0
