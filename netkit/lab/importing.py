"""lab import: a lab of another tool as a lab.yml of ours."""

from __future__ import annotations

import os
import sys
import tempfile

from netkit.cli.commands import command, complain, exactly
from netkit.cli.flags import Options, switch, text
from netkit.cli.session import Session
from netkit.client.failure import Failure

LEFT_OUT = 3  # exit status of --strict


@command(
    "[OPTIONS] FILE|FOLDER",
    exactly(1),
    text("output", "Make this folder, with a lab.yml; by default it is printed", short="o"),
    switch("strict", f"Write nothing and end with status {LEFT_OUT} if anything was left out"),
)
def import_(session: Session, options: Options) -> int:
    from netkit.errors import NetkitError
    from netkit.lab import reading
    from netkit.lab.consistency import NAME
    from netkit.lab.foreign.reading import read

    output = options.text("output")
    name = os.path.basename(os.path.abspath(output)) if output else "lab"
    if not NAME.fullmatch(name):
        raise Failure(f"{name!r} is no name for a lab: give a folder that matches {NAME.pattern}")
    if output and os.path.lexists(os.path.join(output, reading.FILE)):
        raise Failure(f"{output} has a {reading.FILE} already: give another folder")
    try:
        draft = read(options.args[0])
        made = draft.text()
        reading.parsed(made, name)
    except NetkitError as error:
        raise Failure(str(error)) from error
    for title, notes in (("changed", draft.changed), ("not carried over", draft.omitted)):
        for note in notes:
            complain(f"{title}: {note}")
    if options.flag("strict") and draft.omitted:
        return LEFT_OUT
    if output:
        _write(output, made)
        print(f"{os.path.join(output, reading.FILE)}: {len(draft.document()['hosts'])} hosts,"
              f" {len(draft.checks)} checks, {len(draft.omitted)} left out")  # fmt: skip
    else:
        sys.stdout.write(made)
    return 0


def _write(folder: str, made: str) -> None:
    """All of it or nothing; a lab.yml that has come meanwhile stays."""
    try:
        os.makedirs(folder, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=folder, prefix=".lab.yml-")
        try:
            with os.fdopen(fd, "w") as file:
                file.write(made)
                os.fchmod(file.fileno(), 0o644)
            os.link(temporary, os.path.join(folder, "lab.yml"))
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise Failure(f"{folder}: {error.strerror}") from error
