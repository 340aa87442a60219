"""netkitd without --metrics-addr loads nothing of prometheus_client."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.places import ROOT

PROGRAM = """
import sys
import runtime.daemon.process
before = {name.partition(".")[0] for name in sys.modules}
import runtime.metrics.server
after = {name.partition(".")[0] for name in sys.modules}
print("prometheus_client" in before, "prometheus_client" in after)
"""


@pytest.mark.slow
def test_the_library_is_loaded_with_the_listener() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.split() == ["False", "True"]
