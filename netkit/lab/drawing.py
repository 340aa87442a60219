"""lab graph: the topology as a picture, or as the text of one."""

from __future__ import annotations

import os

from netkit.cli.commands import command, exactly
from netkit.cli.flags import Flag, Options, text, value
from netkit.cli.session import Session
from netkit.client.failure import Misuse
from netkit.lab.command import NAME, _failures, _read

FORMATS = ("text", "mermaid", "svg", "dot")
ENDINGS = {"": "text", ".svg": "svg", ".mmd": "mermaid", ".txt": "text", ".dot": "dot",
           ".gv": "dot"}  # fmt: skip


def _drawing(given: str) -> str:
    if given not in FORMATS:
        raise ValueError("there is text, mermaid, svg and dot")
    return given


DRAWING: Flag = value("format", "string", _drawing, '"text", "mermaid", "svg" or "dot"; by default'
                      " what the suffix of -o, else text")  # fmt: skip


@command("[OPTIONS] LAB", exactly(1), DRAWING, NAME,
         text("output", "Write to a file: .svg, .mmd, .dot or .txt", short="o"))  # fmt: skip
def graph(session: Session, options: Options) -> None:
    output = options.text("output")
    kind = options.text("format") or _kind_of(output)
    with _failures():
        from netkit.lab.dot import dot
        from netkit.lab.graph import graph as drawn

        lab, _ = _read(options)
        picture = dot(lab) if kind == "dot" else drawn(lab, kind)
    if not output:
        print(picture, end="")
        return
    with open(output, "w") as file:
        file.write(picture)


def _kind_of(output: str) -> str:
    ending = os.path.splitext(output)[1]
    if ending not in ENDINGS:
        raise Misuse(f"{output}: give a --format, for {ending} implies none")
    return ENDINGS[ending]
