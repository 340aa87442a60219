"""lab: up, down, status, check, restart, sh, exec, ui, ls."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from netkit.cli import table
from netkit.cli.commands import NONE, Count, at_least, command, complain, exactly
from netkit.cli.flags import Options, read, switch, text, value
from netkit.cli.netplan import CHANGES
from netkit.cli.session import Session
from netkit.client.endpoint import parse_host
from netkit.client.failure import Failure
from netkit.ui.command import MORE, PORT

if TYPE_CHECKING:
    from netkit.lab.facts import Node
    from netkit.lab.journal import Journal
    from netkit.lab.model import Lab, Places

NAME = text("name", "Name of the lab; that of its folder by default")
STATUS = "table {{.Name}}\t{{.Kind}}\t{{.Host}}\t{{.State}}\t{{.Addresses}}\t{{.Ports}}"
HEADERS = {"Name": "NAME", "Kind": "KIND", "Host": "HOST", "State": "STATE",
           "Addresses": "ADDRESSES", "Ports": "PORTS"}  # fmt: skip


def _format(text: str) -> str:
    if text not in ("table", "json"):
        raise ValueError("there is table and json")
    return text


FORMAT = value("format", "string", _format, 'Output as "table" or "json"', default="table")


@command("[OPTIONS] LAB [HOST]", Count(1, 2), NAME)
def up(session: Session, options: Options) -> None:
    with _failures():
        from netkit.lab import building

        lab, places = _read(options)
        fresh = building.up(lab, places, only=_host(options))
        print(f"{_what(options, lab.name)} is up" + ("" if fresh else ", as it was"))


@command("[OPTIONS] LAB [HOST]", Count(1, 2), NAME)
def down(session: Session, options: Options) -> None:
    with _failures():
        from netkit.lab import building

        places = _places(options)
        found = building.down(places, _host(options))
        state = "down" if found else "not up: nothing to take down"
        print(f"{_what(options, places.lab)} is {state}")


PLAN = switch("plan", "Show the steps in their order and do nothing; exit 2 if there are any")


@command("[OPTIONS] [LAB|FILE]", Count(0, 1), NAME, FORMAT, PLAN)
def apply(session: Session, options: Options) -> int:
    """Exit code 0, with --plan 2 where something is to be done."""
    with _failures():
        from netkit.lab import applying, building
        from netkit.lab.journal import Journal

        lab, places = _read(options)
        if options.flag("plan"):
            return _plan(list(applying.documented(applying.plan(lab, places))), options)
        if not Journal(places.folder).exists():
            building.up(lab, places)
            print(f"lab {lab.name} is up")
            return 0
        count = applying.apply(lab, places)
    steps = f"{count} step{'s' if count != 1 else ''}" if count else "nothing was to be done"
    print(f"lab {lab.name} is as {options.args[0] if options.args else 'lab.yml'} has it: {steps}")
    return 0


def _plan(steps: list[dict[str, str]], options: Options) -> int:
    if options.text("format") == "json":
        print(json.dumps({"Steps": steps}, indent=4))
    else:
        for step in steps:
            print(step["Step"])
        if not steps:
            print("nothing is to be done")
    return CHANGES if steps else 0


def _host(options: Options) -> str:
    return options.args[1] if len(options.args) > 1 else ""


def _what(options: Options, lab: str) -> str:
    return f"host {_host(options)} of lab {lab}" if _host(options) else f"lab {lab}"


@command("[OPTIONS] LAB", exactly(1), NAME, PORT, more=MORE)
def ui(session: Session, options: Options) -> None:
    """Of a lab that is up, or is not: its page can bring it up."""
    with _failures():
        from netkit.lab.ui import LabPage, sources
        from netkit.ui.command import run

        lab, places = _read(options)
        run(sources(lab, places), LabPage(lab, places), options.number("port"))


@command("[OPTIONS] LAB [HOST]", Count(1, 2), NAME, text("format", "Go template, or json"))
def status(session: Session, options: Options) -> None:
    with _failures():
        from netkit.lab.facts import Facts

        lab, places = _running(options)
        found = Facts(lab, places).nodes()
    if host := _host(options):
        if lab.host(host) is None:
            raise Failure(f"lab {lab.name} has no host {host!r}")
        found = [n for n in found if n.host == host]
    rows = [_row(n) for n in found]
    source = options.text("format") or STATUS
    table.write(rows, source, HEADERS, style=table.by_state if session.colour else None)


def _row(n: Node) -> table.Line:
    return table.line(
        {
            "Name": lambda: n.name,
            "Kind": lambda: n.kind,
            "Host": lambda: n.host,
            "State": lambda: n.state,
            "Addresses": lambda: ", ".join(f"{w} {a}" for w, a in n.addresses.items()),
            "Ports": lambda: ", ".join(n.ports),
            "Netns": lambda: n.netns,
        }
    )


@command("[OPTIONS] LAB", exactly(1), NAME, FORMAT)
def check(session: Session, options: Options) -> int:
    with _failures():
        from netkit.lab import building, rehearsal, schedulereport
        from netkit.lab.drift import drift as found_drift
        from netkit.lab.journal import Journal

        lab, places = _read(options)
        if not lab.checks:
            raise Failure(f"lab {lab.name} has no checks")
        stands = Journal(places.folder).state("lab") == "done"
        fresh = not stands and building.up(lab, places, complain)
        drift = found_drift(lab, places) if stands else []
        try:
            found = rehearsal.run(lab, places)
        finally:
            if fresh:
                building.down(places)
    if options.text("format") == "json":
        print(json.dumps(schedulereport.document(lab.name, found, drift), indent=2))
    else:
        print(*drift, sep="\n", end="\n\n" if drift else "")
        print(schedulereport.text(lab.name, found, colour=session.colour))
    return 0 if found.ok and not drift else 1


@command("[OPTIONS] LAB HOST", exactly(2), NAME)
def restart(session: Session, options: Options) -> None:
    with _failures():
        from netkit.lab import building

        lab, places = _running(options)
        building.restart(lab, places, options.args[1])
        print(f"netkitd of {options.args[1]} is running again")


@command("[OPTIONS] LAB HOST|CONTAINER", exactly(2), NAME)
def sh(session: Session, options: Options) -> int:
    with _failures():
        lab, places, node = _node(options)
    if node.kind == "container":
        flags = ["-it"] if sys.stdin.isatty() else ["-i"]
        return _in_container(places, node, [*flags, node.name, "sh"])
    shell = os.environ.get("SHELL") or "/bin/sh"
    more = {"PS1": f"{lab.name} {node.name} # ", **_others(lab, places)}
    return _on_host(places, node, [shell], more)


@command("[OPTIONS] LAB HOST|CONTAINER COMMAND [ARG...]", at_least(3), NAME, interspersed=False)
def exec_(session: Session, options: Options) -> int:
    with _failures():
        lab, places, node = _node(options)
    words = list(options.args[2:])
    if words[0] == "--":
        words = words[1:]
    if node.kind == "container":
        return _in_container(places, node, ["-i", node.name, *words])
    return _on_host(places, node, words, _others(lab, places))


def _others(lab: Lab, places: Places) -> dict[str, str]:
    """Engines of other hosts for `net trace`."""
    named = [h.name for h in lab.hosts if h.daemon is not None]
    return {"NETKIT_VIA": ",".join(f"{name}=unix://{places.socket(name)}" for name in named)}


def _in_container(places: Places, node: Node, argv: list[str]) -> int:
    from netkit.cli.exec import exec_ as engine_exec
    from netkit.lab import engines

    own = Session(endpoint=parse_host(engines.serving(places, node.host).url, None))
    try:
        given = read(engine_exec.flags, argv, "netkit lab exec", interspersed=False)
        return engine_exec.handler(own, given) or 0
    finally:
        own.engine.close()


def _on_host(places: Places, node: Node, words: list[str], more: dict[str, str]) -> int:
    """In place of this process, so that signals and the terminal are the command's."""
    from netkit.lab.commands import environment, inside

    argv = inside(places, node.host, words)
    program = shutil.which(argv[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not program:
        raise Failure("ip is not in PATH: install the Debian package iproute2")
    sys.stdout.flush()
    os.execve(program, argv, environment(places, node.host) | more)


@command("", NONE)
def ls(session: Session, options: Options) -> None:
    """Labs that are up, or half up, with their folders."""
    from netkit.lab.journal import Journal
    from netkit.lab.model import Places

    home = Places(lab="").state
    names = sorted(e.name for e in os.scandir(home) if e.is_dir()) if os.path.isdir(home) else []
    rows = [_standing(n, j) for n in names if (j := Journal(Places(lab=n).folder)).exists()]
    table.write(rows, "table {{.Name}}\t{{.State}}\t{{.Folder}}",
                {"Name": "NAME", "State": "STATE", "Folder": "FOLDER"})  # fmt: skip


def _standing(name: str, journal: Journal) -> table.Line:
    state = "up" if journal.state("lab") == "done" else "half up"
    folder = journal.fact("lab", "folder")
    return table.line({"Name": lambda: name, "State": lambda: state, "Folder": lambda: folder})


# which lab


def _places(options: Options) -> Places:
    """By the name of the folder; the folder need not be there any more."""
    from netkit.lab.consistency import NAME as PATTERN
    from netkit.lab.model import Places

    place = os.path.abspath(options.args[0] if options.args else ".")
    name = options.text("name") or os.path.basename(
        os.path.dirname(place) if os.path.isfile(place) else place
    )
    if not PATTERN.fullmatch(name):
        raise Failure(f"{name!r} is no name for a lab: it must match {PATTERN.pattern}")
    return Places(lab=name)


def _read(options: Options) -> tuple[Lab, Places]:
    """From its folder, or, for a lab that is up, from the folder it came from."""
    from netkit.lab import reading
    from netkit.lab.journal import Journal

    places = _places(options)
    folder = options.args[0] if options.args else "."
    if not os.path.exists(folder) and "/" not in folder:
        folder = Journal(places.folder).fact("lab", "folder") or folder
    return reading.read(folder, places.lab), places


def _running(options: Options) -> tuple[Lab, Places]:
    from netkit.lab.journal import Journal

    places = _places(options)
    if not Journal(places.folder).exists():
        raise Failure(f"lab {places.lab} is not up: netkit lab up {options.args[0]}")
    return _read(options)


def _node(options: Options) -> tuple[Lab, Places, Node]:
    from netkit.lab.facts import Facts

    lab, places = _running(options)
    node = Facts(lab, places).node(options.args[1])
    if not node.running:
        raise Failure(f"{node.name} does not run ({node.state}): netkit lab up {options.args[0]}")
    return lab, places, node


@contextmanager
def _failures() -> Iterator[None]:
    """Turn errors of a lab into the command line's; root is needed for all of it."""
    from netkit.errors import NetkitError

    try:
        yield
    except NetkitError as error:
        notes = getattr(error, "__notes__", [])
        raise Failure("\n".join([str(error), *notes])) from error
    except PermissionError as error:
        raise Failure(f"labs need root: {error}") from error
