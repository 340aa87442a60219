"""netkitd's command line: what needs no daemon imports none of its modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.slow
PROGRAM = """
import sys
from runtime.daemon.main import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
OF_THE_DAEMON = {"aiohttp", "asyncio", "pyroute2", "runtime.api", "runtime.daemon.process"}


@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--version"], 0), (["--help"], 0), (["--validate", "--config-file=/dev/null"], 0),
     (["--nosuch"], 1)],
)  # fmt: skip
def test_what_needs_no_daemon_imports_none(flags: list[str], code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *flags],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert not OF_THE_DAEMON & set(done.stderr.split())
