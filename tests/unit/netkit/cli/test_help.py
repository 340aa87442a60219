"""Help with examples that parse, and docker's commands and flags that are not here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from netkit.cli import absent, catalog, drivers
from netkit.cli.app import run
from netkit.cli.commands import Command, Entry, load
from netkit.cli.completion import script
from netkit.cli.examples import EXAMPLES, examples
from netkit.cli.flags import read
from netkit.client.failure import Misuse

FLAGS = json.loads((Path(__file__).parent / "golden" / "cli_flags.json").read_text())

# of `docker --help` and `docker GROUP --help` of docker 28
DOCKER = """
attach build builder checkpoint commit compose config container context cp create diff events exec
export history image images import info inspect kill load login logout logs manifest network node
pause plugin port ps pull push rename restart rm rmi run save search secret service stack start
stats stop swarm system tag top trust unpause update version volume wait
""".split()
INSIDE = {
    "container": "attach commit cp create diff exec export inspect kill logs ls pause port prune "
    "rename restart rm run start stats stop top unpause update wait",
    "image": "build history import inspect load ls prune pull push rm save tag",
    "network": "connect create disconnect inspect ls prune rm",
    "system": "df events info prune",
}


def commands() -> Iterator[tuple[str, Command]]:
    def walk(entries: Mapping[str, Entry], path: str) -> Iterator[tuple[str, Command]]:
        for name, entry in entries.items():
            words = f"{path} {name}".strip()
            if entry.inside is not None:
                yield from walk(entry.inside, words)
            elif not entry.hidden:
                found = load(name, entry)
                assert isinstance(found, Command)
                yield words, found

    return walk(catalog.ROOT, "")


def test_every_command_has_an_example_which_parses() -> None:
    seen = dict(commands())
    for words, found in seen.items():
        lines = examples(words)
        assert lines, f"netkit {words} has no example"
        for line in lines:
            if line.startswith("eval "):
                line = line.partition("(")[2].rstrip(')"')  # noqa: PLW2901
            program, *argv = shlex.split(line)
            parts = 2 if " ".join(argv[:2]) in seen else 1
            named = seen[" ".join(argv[:parts])]
            assert program == "netkit"
            assert named.handler is found.handler, line
            options = read(named.flags, argv[parts:], line, interspersed=named.interspersed)
            assert not named.count.complaint(line, len(options.args)), line


def test_there_is_no_example_of_a_command_that_is_not_there() -> None:
    assert sorted(set(EXAMPLES) - {words for words, _ in commands()}) == []


def test_help_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "net", "create"]) == 0
    text = capsys.readouterr().out
    assert "Usage:  netkit net create [OPTIONS] NETWORK" in text
    assert "netkit net create --subnet 10.5.0.0/24 back" in text
    assert run(["help"]) == 0
    assert "Common Commands" in capsys.readouterr().out
    assert run(["help", "nosuch"]) == 1


@pytest.mark.parametrize("name", ["run", "exec", "create", "start"])
def test_help_never_runs_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`netkit run busybox --help` runs --help in a container; nothing may be asked of an engine."""
    assert run(["-H", "unix:///nosuch", "help", name, "busybox"]) == 1
    assert capsys.readouterr().err == f"{name} has no subcommands: write `netkit help {name}`\n"


def test_help_of_create_lists_the_options_of_every_driver() -> None:
    text = drivers.paragraph()
    for driver, known in drivers.options().items():
        assert isinstance(known, Mapping) or not known, driver
        block = text.partition(f"\n  {driver}")[2].partition("\n  null")[0]
        for key in known:
            about = known[key] if isinstance(known, Mapping) else ""
            assert not about or f"\n    {key}\n" in block
    assert {"bridge", "host", "lan", "null", "ovs"} <= set(drivers.names())


def test_every_command_of_dockers_is_here_or_says_what_to_use() -> None:
    ours = {words for words, _ in commands()} | set(catalog.ROOT)
    theirs = [*DOCKER, *(f"{g} {name}" for g, names in INSIDE.items() for name in names.split())]
    assert sorted(set(theirs) - ours - set(absent.INSTEAD)) == []
    assert sorted(set(absent.INSTEAD) & ours) == []


@pytest.mark.parametrize("words", absent.INSTEAD)
def test_a_missing_command_is_explained_in_a_line(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words.split(), "x"]) == 1
    assert capsys.readouterr().err == f"netkit {words}: {absent.INSTEAD[words]}\n"


@pytest.mark.parametrize("word", ["pull", "frobnicate", "psx1"])
def test_a_hint_is_given_only_when_it_is_close(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run([word])
    assert "did you mean" not in capsys.readouterr().err


def test_every_flag_of_dockers_is_here_or_says_why_not() -> None:
    """golden/cli_flags.json: the flags in `docker COMMAND --help` of docker 28.2.2."""
    ours = dict(commands())
    used = set()
    for words, flags in FLAGS.items():
        missing = set(flags) - {flag.name for flag in ours[words].flags}
        assert sorted(missing - set(absent.FLAGS)) == [], words
        used |= missing
        for name in missing:
            with pytest.raises(Misuse, match=f"--{name} is not supported: "):
                read(ours[words].flags, [f"--{name}"], words)
    assert used == set(absent.FLAGS)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_drivers_and_labs(shell: str) -> None:
    text = script(shell)
    assert "_netkit_kinds[netkit_lab_up]='labs" in text
    assert f'echo "{" ".join(drivers.names())}"' in text
