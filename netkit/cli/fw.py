"""fw: access rules, the firewall's state, and its drift."""

from __future__ import annotations

from netkit.cli import table
from netkit.cli.commands import NONE, at_least, at_most, between, command, complain
from netkit.cli.ends import EXPLAINED, USAGE, coloured
from netkit.cli.flags import Flag, Options, many, switch, text
from netkit.cli.fwtext import ANYWHERE, port_of, source_of
from netkit.cli.ps import FORMAT_HELP, table_format
from netkit.client.failure import Failure, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = "table {{.ID}}\t{{.Verdict}}\t{{.Source}}\t{{.To}}\t{{.Port}}\t{{.Status}}"
HEADERS = {
    "ID": "RULE ID", "Verdict": "VERDICT", "Source": "SOURCE", "To": "TO", "Port": "PORT",
    "Status": "STATUS",
}  # fmt: skip
NO_RULES = "netkit writes no rules here (--iptables=false): there is nothing to check or repair"

ABOUT: tuple[Flag, ...] = (
    many("src", "Source: address or network in CIDR notation, or a container's name, "
                "HOST/NAME on another host", short="s", kind="strings"),
    text("to", "Container the rule is about (required)"),
    text("port", "Port of the container, e.g. 80/tcp, 53/udp or 8000-8010/tcp; all unless given",
         short="p"),
    text("published", "Port of the host, as published with -p, instead of the container's"),
    switch("first", "Put the rule before all others instead of after them"),
)  # fmt: skip


@command("[OPTIONS]", NONE, *ABOUT)
def drop(session: Session, options: Options) -> None:
    _add(session, options, "drop")


@command("[OPTIONS]", NONE, *ABOUT)
def accept(session: Session, options: Options) -> None:
    _add(session, options, "accept")


def _add(session: Session, options: Options, verdict: str) -> None:
    if not options.text("to"):
        raise Misuse("--to is needed: the container that the rule is about", 1)
    if options.text("port") and options.text("published"):
        raise Misuse("--port and --published exclude each other", 1)
    sources = [s for given in options.texts("src") for s in given.split(",")] or [ANYWHERE]
    networks = [s for s in sources if _is_network(s)]
    names = [s for s in sources if not _is_network(s)]
    if len(names) + bool(networks) > 1:
        raise Misuse("a rule has either networks or one container as its source", 1)
    made = session.engine.post(
        "/netkit/firewall/access",
        body={
            "Verdict": verdict,
            "Sources": networks,
            "Container": names[0] if names else "",
            "To": options.text("to"),
            "Port": options.text("published") or options.text("port"),
            "Published": bool(options.text("published")),
            "First": options.flag("first"),
        },
    )
    for warning in made.get("Warnings") or ():
        complain(f"WARNING: {warning}")
    print(made["Id"])


def _is_network(text: str) -> bool:
    """Anything else is a container's name; the daemon knows which there are."""
    return (text[:1].isdigit() and all(c in "0123456789./" for c in text)) or ":" in text


@command(
    "[OPTIONS] [CONTAINER]", at_most(1),
    text("format", FORMAT_HELP),
    switch("no-trunc", "Do not truncate the output"),
    switch("quiet", "Only display rule IDs", short="q"),
)  # fmt: skip
def ls(session: Session, options: Options) -> None:
    source = table_format(options, TABLE)
    found = session.engine.get("/netkit/firewall/access", {"container": _only(options)})
    rows = [row(each, not options.flag("no-trunc")) for each in found]
    table.write(rows, source, HEADERS, style=_coloured if session.colour else None)


def row(found: Json, trunc: bool) -> table.Line:
    fields: dict[str, Callable[[], object]] = {
        "ID": lambda: found["Id"],
        "Verdict": lambda: found["Verdict"],
        "Source": lambda: source_of(found, trunc),
        "To": lambda: found["To"],
        "Port": lambda: port_of(found),
        "Status": lambda: found["Status"],
    }
    return table.line(fields, Label=lambda name: "")


def _coloured(header: str, cell: str) -> str:
    if header == "VERDICT":
        return (table.GREEN if cell.strip() == "accept" else table.RED) + cell + table.RESET
    return cell


@command("RULE [RULE...]", at_least(1))
def rm(session: Session, options: Options) -> int:
    failed = 0
    for ref in options.args:
        try:
            print(session.engine.delete(f"/netkit/firewall/access/{ref}")["Id"], flush=True)
        except Failure as failure:
            complain(str(failure))
            failed = 1
    return failed


@command("[OPTIONS]", NONE, switch("quiet", "Print nothing, only exit with 1 if there is drift",
                                   short="q"))  # fmt: skip
def check(session: Session, options: Options) -> int:
    found = session.engine.get("/netkit/firewall/drift")
    wrong = [*found["Steps"], *(found.get("Findings") or ())]
    if not options.flag("quiet"):
        for line in wrong:
            print(line)
        if not found["Enforced"]:
            print(NO_RULES)
        elif not wrong:
            print("the firewall is as it should be")
    return 1 if wrong else 0


@command()
def repair(session: Session, options: Options) -> int:
    found = session.engine.post("/netkit/firewall/repair")
    steps, findings = found["Steps"], found.get("Findings") or ()
    for step in steps:
        print(step)
    if not found["Enforced"]:
        print(NO_RULES)
    else:
        print(f"repaired, {len(steps)} steps" if steps else "there was nothing to repair")
    for line in findings:
        complain(line)
    return 1 if findings else 0


@command("[OPTIONS] [CONTAINER]", at_most(1), text("format", "'json', or nothing for text"))
def show(session: Session, options: Options) -> None:
    as_json = table.wants_json(options)
    found = session.engine.get("/netkit/firewall", {"container": _only(options)})
    if as_json:
        import json

        print(json.dumps(found, indent=4))
        return
    from netkit.cli.fwtext import lines

    print("\n".join(lines(found)))


@command(
    USAGE, between(2, 3),
    text("format", "'json', or nothing for text"),
    more=EXPLAINED,
)  # fmt: skip
def explain(session: Session, options: Options) -> int:
    """Exit code 0: it arrives."""
    as_json = table.wants_json(options)
    source, target, *rest = options.args
    asked = {"from": source, "to": target, "port": "".join(rest)}
    found = session.engine.get("/netkit/firewall/explain", asked)
    if as_json:
        import json

        print(json.dumps(found["Explanation"], indent=4))
    else:
        verdict = found["Explanation"]["verdict"].upper()
        print(coloured(found["Text"], verdict) if session.colour else found["Text"])
    return 0 if found["Explanation"]["verdict"] == "delivered" else 1


def _only(options: Options) -> str:
    return options.args[0] if options.args else ""
