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
ASKING = START | frozenset(
    "netkit.client.engine netkit.client.http _collections _functools _json _operator _socket _sre"
    " array collections copyreg enum errno functools itertools json keyword math operator re"
    " reprlib select selectors socket types".split()
)


def cli(names: str) -> frozenset[str]:
    """Modules of netkit.cli, and those of the standard library that begin with a plus."""
    return frozenset(
        name[1:] if name.startswith("+") else f"netkit.cli.{name}" for name in names.split()
    )


TEMPLATES = ASKING | cli("gofunctions goformat gotemplate govalues human table")
LISTING = TEMPLATES | cli("ps filters values")
AGO = {"netkit.durations"}
CREATING = ASKING | cli(
    "run createbody createflags human mounts netflags ports references terminal values +contextlib"
)
PULLING = LISTING | {"netkit.client.credentials"} | cli(
    "logins progress references registry"
    " +_struct +base64 +binascii +fnmatch +ipaddress +ntpath +pathlib +struct +urllib +warnings"
    " +contextlib +glob +grp"  # of pathlib, in Python 3.13
)
# Command line: the modules known to be needed, and how many there may be in all, counted with the
# parts of packages of the standard library, of which some versions of Python have more.
COMMANDS = {
    "--version": (START, 13),
    "--help": (START, 13),
    "weave --help": (START, 13),
    "container --help": (START, 13),
    "ps": (LISTING | AGO, 57),
    "ps --help": (LISTING | cli("examples +textwrap"), 48),
    "version": (TEMPLATES | cli("system"), 54),
    "images": (LISTING | AGO | cli("images references"), 59),
    "network ls": (LISTING | cli("network netflags removing"), 59),
    "inspect web": (TEMPLATES | cli("inspect gotypes"), 55),
    "logs web": (TEMPLATES | cli("look moments pump terminal values +contextlib"), 59),
    "rm -f web": (ASKING | cli("life values human"), 49),
    "stop web": (ASKING | cli("life values human"), 49),
    "start web": (ASKING | cli("attach terminal human"), 49),
    "run --help": (CREATING | cli("examples +textwrap"), 49),
    "run -d busybox": (CREATING, 58),
    "pull busybox": (PULLING, 74),
}


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
    return set(done.stderr.splitlines()[-1].split())


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


def python(*lines: str, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command line as the program does, after some lines of Python."""
    text = ["import sys", f"sys.argv[1:] = {line.split()!r}", *lines, "from netkit.cli import main"]
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*text, "main()"])],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_quick_end_loses_no_output_and_keeps_the_exit_code() -> None:
    whole = python(line="--help")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout.endswith("for more information on a command.\n")
    wrong = python(line="nosuch")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "unknown command: netkit nosuch" in wrong.stderr


def test_what_was_registered_for_the_end_and_threads_get_their_turn() -> None:
    end = python("import atexit", "atexit.register(print, 'the end')", line="--version")
    assert end.stdout.splitlines()[1:] == ["the end"]
    later = ("import threading", "late = lambda: print('late', flush=True)",
             "threading.Timer(0.2, late).start()")  # fmt: skip
    assert python(*later, line="--version").stdout.splitlines()[1:] == ["late"]
