"""weave status, report, ps and version."""

from __future__ import annotations

import json

from netkit.cli import table, weavetext
from netkit.cli.commands import NONE, Count, at_most, command, complain
from netkit.cli.flags import Options, text
from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.client.failure import Failure, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netkit.cli.session import Session
    from netkit.client.engine import Json

ABSENT = "the weave overlay is not running on this host: netkit weave launch"
STOPPED = "the weave overlay was launched on this host, and does not run: see netkitd's log"
SECTIONS: Mapping[str, Callable[[Json], list[str]]] = {
    "connections": lambda status: [weavetext.connection(each) for each in status["connections"]],
    "peers": weavetext.peers,
    "targets": weavetext.targets,
    "dns": weavetext.names,
    "ipam": weavetext.addresses,
}


def required(session: Session) -> Json:
    """Return GET /netkit/weave, fit to be printed.  Failure: the overlay was not launched."""
    found: Json = weavetext.printable(session.engine.get("/netkit/weave"))
    if not found["Launched"]:
        raise Failure(ABSENT)
    return found


def _off(found: Json) -> str:
    """Why there is no status."""
    return STOPPED if found["Launched"] else ABSENT


def _attached(session: Session) -> list[Json]:
    """Containers on networks of the overlay, and this host: also while it does not run."""
    rows: list[Json] = weavetext.printable(session.engine.get("/netkit/weave/ps"))
    return rows


def _here(rows: list[Json]) -> str:
    """Of a host whose overlay does not run: who is on its networks all the same."""
    count = len({row["Container"] for row in rows})
    return f"; on its networks here: {count} (netkit weave ps)" if count else ""


@command("[connections|peers|targets|dns|ipam]", at_most(1))
def status(session: Session, options: Options) -> None:
    section = options.args[0] if options.args else ""
    if section and section not in SECTIONS:
        raise Misuse(f"{options.path} {section}: use one of {', '.join(SECTIONS)}")
    found: Json = weavetext.printable(session.engine.get("/netkit/weave"))
    if not found["Running"]:
        for warning in found.get("Warnings") or ():
            complain(f"WARNING: {warning}")
        raise Failure(_off(found) + _here(_attached(session)))
    shown = found["Status"]
    if not section:
        print(f"\n{weavetext.summary(found)}")
    for line in SECTIONS[section](shown) if section else ():
        print(line)


@command(
    "[OPTIONS]", NONE,
    text("format", "Format the report with a Go TEMPLATE, which knows json", short="f"),
)  # fmt: skip
def report(session: Session, options: Options) -> None:
    try:
        template = Template(options.text("format")) if "format" in options.given else None
        required(session)
        everything = weavetext.printable(session.engine.get("/netkit/weave/report"))
        found = weavetext.of_weave(everything)
        print(template.render(found) if template else json.dumps(found, indent=4))
    except TemplateError as error:
        raise table.template_failure(error, table.TEMPLATE_ERROR) from None


@command("[CONTAINER...]", Count(0, None))
def ps(session: Session, options: Options) -> int:
    found = session.engine.get("/netkit/weave")
    rows = _attached(session)
    if not found["Launched"] and not rows:
        raise Failure(ABSENT)
    if not found["Running"]:
        complain(f"WARNING: {_off(found)}")
    shown = [row for row in rows if not options.args or _is_one_of(row, options.args)]
    for row in shown:
        print(" ".join([_short(row["Container"]), row["Mac"], *row["Addresses"]]))
    absent = [name for name in options.args if not any(_is_one_of(row, [name]) for row in shown)]
    for name in absent:
        complain(f"{name} is no container on the overlay")
    return 1 if absent else 0


def _short(container: str) -> str:
    return container if container.startswith("weave:") else container[: weavetext.SHOWN]


def _is_one_of(row: Json, names: list[str] | tuple[str, ...]) -> bool:
    return any(
        name == row["Name"].removeprefix("/") or (name and row["Container"].startswith(name))
        for name in names
    )


@command("", NONE)
def version(session: Session, options: Options) -> None:
    """Of the command, and of the overlay where it runs."""
    from netkit import __version__

    print(f"weave command {__version__} (netkit)")
    found = weavetext.printable(session.engine.get("/netkit/weave"))
    if found["Running"]:
        print(f"weave {found['Status']['software']}")
