"""lab impair: change what links of a running lab do to packets, and show it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from netkit.cli import table
from netkit.cli.commands import Count, command
from netkit.cli.flags import Options, switch, text, value
from netkit.cli.session import Session
from netkit.client.failure import Failure
from netkit.lab.command import FORMAT, NAME, _failures, _running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.lab.impairing import Standing

VALUES = ("delay", "jitter", "loss", "rate", "duplicate", "reorder", "corrupt")


def _seed(text: str) -> int:
    from netkit.model.impairment import MAX_SEED

    if not text.isascii() or not text.isdigit() or int(text[:12]) > MAX_SEED:
        raise ValueError(f"a number from 0 to {MAX_SEED}")
    return int(text)


@command(
    "[OPTIONS] LAB [LINK]",
    Count(1, 2),
    text("delay", "How long a packet takes one way: 20ms, 500us, 1s"),
    text("jitter", "By up to so much more or less, evenly distributed"),
    text("loss", "Share of the packets that are lost: 1%"),
    text("rate", "So much passes: 10mbit; the rest waits up to 0.2 s, then is dropped"),
    text("duplicate", "Share of the packets that arrive twice"),
    text("reorder", "Share of the packets that are not delayed, and so overtake others"),
    text("corrupt", "Share of the packets in which a bit is flipped"),
    switch("down", "Nothing passes: no carrier; of one way, all of it is lost"),
    switch("clear", "First undo all impairments of the link, also those of lab.yml"),
    text("from", "Only packets that this host sends into the link"),
    value("seed", "int", _seed, "Of the random numbers: the same packets meet the same fate"),
    NAME,
    FORMAT,
    more="""LINK is HOST@INTERFACE, or HOST if it has one interface; impaired both ways.  Or it is a
segment of `underlay`, or HOST-HOST for one that connects these two alone: then what each of its
hosts sends into it is impaired, so that a packet between two of them is once.  What is not given
stays as it was.  Without options the impairments are shown, of all links by default, with what was
measured.""",
)
def impair(session: Session, options: Options) -> None:
    with _failures():
        from netkit.lab import impairing, links
        from netkit.lab.impairment_request import ImpairmentRequest
        from netkit.lab.journal import only_one

        lab, places = _running(options)
        named = options.args[1:]
        found = links.chosen(lab, named[0]) if named else links.every(lab)
        change = ImpairmentRequest(
            values={name: options.text(name) for name in VALUES if name in options.given},
            down=options.optional_flag("down") if "down" in options.given else None,
            clear=options.flag("clear"),
            source=options.text("from"),
            seed=options.number("seed") if "seed" in options.given else None,
        )
        if change and not named:
            raise Failure(f"of which link? (there are: {', '.join(map(str, found.ends))})")
        if change:
            with only_one(places):
                new = links.changed_by(lab, impairing.wanted(lab, places), found, change)
                impairing.change(places, new)
                impairing.settle(lab, places, links=new.keys())
        elif change.source:
            raise Failure("--from HOST: of which impairment? give one, as --delay 20ms")
        seen = [impairing.standing(lab, places, end) for end in found.ends]
    if options.text("format") == "json":
        print(json.dumps([each.document() for each in seen], indent=2))
    else:
        _show(seen)


def _show(seen: Sequence[Standing]) -> None:
    titles = {"Link": "LINK", "Way": "WAY", "Impairment": "IMPAIRMENT", "By": "BY",
              "Measured": "MEASURED"}  # fmt: skip
    rows = []
    for each in seen:
        for way, what in (("out", each.wanted.out), ("in", each.wanted.into)):
            values = (each.link, way, str(what), each.by, each.measured(way))
            cells = dict(zip(titles, values, strict=True))
            rows.append(table.line({name: partial(cells.get, name) for name in titles}))
    source = "table " + "\t".join(f"{{{{.{name}}}}}" for name in titles)
    table.write(rows, source, titles)
    for each in seen:
        if each.drift:
            raise Failure(f"{each.link}: {each.drift}: netkit lab up makes it so again")
