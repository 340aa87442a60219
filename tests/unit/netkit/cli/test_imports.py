"""What common commands import, in an interpreter each: imports are most of their time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.places import ROOT
from tests.unit.netkit.cli.cli_fake_daemon import FakeDaemon, anywhere

pytestmark = pytest.mark.slow
PROGRAM = """
import sys
before = set(sys.modules)
from netkit.cli.app import run
try:
    code = run(sys.argv[1:])
finally:
    print(*sorted(sys.modules.keys() - before), file=sys.stderr)
sys.exit(code)
"""

# Modules of netkit that any command imports, and those of the standard library that it takes to
# ask a daemon for JSON, by their first names.
START = frozenset(
    "__future__ netkit netkit.cli netkit.cli.app netkit.cli.catalog netkit.cli.commands"
    " netkit.cli.flags netkit.cli.session netkit.client netkit.client.endpoint"
    " netkit.client.failure netkit.client.value".split()
)
ASKING = frozenset(
    "netkit.client.engine netkit.client.http _collections _functools _json _operator _socket _sre"
    " array collections copyreg enum errno functools itertools json keyword math operator re"
    " reprlib select selectors socket types".split()
)
LISTING = frozenset(
    f"netkit.cli.{name}" for name in "gofunctions goformat gotemplate govalues human table".split()
)
# Command line: the modules known to be needed, and how many there may be in all, counted with the
# parts of packages of the standard library, of which some versions of Python have more.
COMMANDS = {
    "--version": (START, 13),
    "--help": (START, 13),
    "weave --help": (START, 13),
    "ps": (START | ASKING | LISTING | {"netkit.cli.ps", "netkit.cli.filters", "netkit.cli.values"},
           57),
    "version": (START | ASKING | LISTING | {"netkit.cli.system", "_datetime", "datetime"}, 57),
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    with anywhere() as found:
        yield found


def imported(daemon: FakeDaemon, line: str) -> set[str]:
    """Return the modules that one command line imports; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *line.split()],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "NETKIT_HOST": f"unix://{daemon.server_address}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(done.stderr.split())


def known(name: str, needed: frozenset[str]) -> bool:
    return name in needed or (
        not name.startswith("netkit") and name.partition(".")[0] in needed
    )


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_imports_what_it_needs_and_no_more(daemon: FakeDaemon, line: str) -> None:
    needed, most = COMMANDS[line]
    found = imported(daemon, line)
    new = sorted(name for name in found if not known(name, needed))
    assert not new, f"netkit {line} imports {len(new)} more: {' '.join(new)}"
    assert len(found) <= most, f"netkit {line} imports {len(found)}, not {most}: {sorted(found)}"
