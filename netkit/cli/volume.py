"""volume: create, ls, rm."""

from __future__ import annotations

from netkit.cli import filters, human, removing, table, values
from netkit.cli.commands import NONE, at_least, at_most, command
from netkit.cli.flags import Options, many, switch, text
from netkit.cli.ps import FORMAT_HELP, table_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = "table {{.Driver}}\t{{.Name}}"
HEADERS = {
    "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS", "Links": "LINKS", "Size": "SIZE", "Status": "STATUS", "Group": "GROUP",
    "Availability": "AVAILABILITY",
}  # fmt: skip


@command(
    "[OPTIONS] [VOLUME]", at_most(1),
    text("driver", "Specify volume driver name", short="d", default="local"),
    many("label", "Set metadata for a volume", parse=values.label),
    many("opt", "Set driver specific options", short="o", kind="map", parse=values.mapping),
)  # fmt: skip
def create(session: Session, options: Options) -> None:
    body = {
        "Name": next(iter(options.args), ""),
        "Driver": options.text("driver"),
        "DriverOpts": values.pairs(options.texts("opt")),
        "Labels": values.pairs(options.texts("label")),
    }
    said = {key: given for key, given in body.items() if given}  # none is null, not empty
    print(session.engine.post("/volumes/create", body=said)["Name"])


@command(
    "[OPTIONS]", NONE,
    filters.flag(help='Provide filter values (e.g. "dangling=true")'),
    text("format", FORMAT_HELP),
    switch("quiet", "Only display volume names", short="q"),
)  # fmt: skip
def ls(session: Session, options: Options) -> None:
    raw = ("name: {{.Name}}\ndriver: {{.Driver}}\n", "name: {{.Name}}")
    source = table_format(options, TABLE, quiet="{{.Name}}", raw=raw)
    found = session.engine.get("/volumes", {"filters": filters.query(options)})
    volumes = sorted(found.get("Volumes") or (), key=lambda each: human.natural(each["Name"]))
    table.write([row(each) for each in volumes], source, HEADERS)


def row(found: Json) -> table.Line:
    labels = found.get("Labels") or {}
    usage = found.get("UsageData")
    fields: dict[str, Callable[[], object]] = {
        "Name": lambda: found["Name"],
        "Driver": lambda: found["Driver"],
        "Scope": lambda: found["Scope"],
        "Mountpoint": lambda: found["Mountpoint"],
        "Labels": lambda: human.labels(labels),
        "Links": lambda: str(usage["RefCount"]) if usage else "N/A",
        "Size": lambda: human.size(usage["Size"], 4) if usage else "N/A",
        "Status": lambda: "N/A",  # of volumes of a swarm
        "Group": lambda: "N/A",
        "Availability": lambda: "N/A",
    }
    return table.line(fields, Label=lambda name: labels.get(name, ""))


@command(
    "[OPTIONS] VOLUME [VOLUME...]", at_least(1),
    switch("force", "Force the removal of one or more volumes", short="f"),
)  # fmt: skip
def rm(session: Session, options: Options) -> int:
    delete, query = session.engine.delete, {"force": options.flag("force")}
    return removing.each(
        options.args, lambda name: delete(f"/volumes/{name}", query), absent=False
    )  # with force the engine passes over what is not there
