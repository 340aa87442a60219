"""What netkitd imports: nothing of the daemon for its command line, later what few hosts use."""

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


# Rooms and modules that are imported when they are first used, and how many modules a daemon may
# import at most: 48 KiB of memory and 0.4 ms of a start each.
LATER = (
    "netkit.diagnose", "netkit.overlay.sleeve", "ovs.", "runtime.build.service",
    "runtime.build.stage", "runtime.network.firewall", "runtime.network.trace",
    "runtime.registry.service", "runtime.registry.session",
)  # fmt: skip
MODULES = 940


def test_what_few_hosts_use_is_not_imported_at_the_start_of_a_daemon() -> None:
    code = "import sys; from runtime.daemon import config_load, process; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found = done.stdout.split()
    assert not [name for name in found if name.startswith(LATER)]
    assert len(found) <= MODULES
