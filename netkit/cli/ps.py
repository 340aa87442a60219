"""ps: the containers."""

from __future__ import annotations

from netkit.cli import filters, human, table, values
from netkit.cli.commands import NONE, command, complain
from netkit.cli.flags import switch, text, value
from netkit.cli.gotemplate import TemplateError
from netkit.cli.govalues import NIL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netkit.cli.flags import Options
    from netkit.cli.session import Session
    from netkit.client.engine import Json

FORMAT_HELP = "Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE"
TABLE = (
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
)
RAW = (
    "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n"
    "state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n"
    "labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n"
)
HEADERS = {
    "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND",
    "CreatedAt": "CREATED AT", "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE",
    "Status": "STATUS", "Size": "SIZE", "Labels": "LABELS", "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM",
}  # fmt: skip


@command(
    "[OPTIONS]", NONE,
    switch("all", "Show all containers (default shows just running)", short="a"),
    filters.flag(),
    text("format", FORMAT_HELP),
    value("last", "int", values.integer,
          "Show n last created containers (includes all states)", short="n", default=-1),
    switch("latest", "Show the latest created container (includes all states)", short="l"),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only display container IDs", short="q"),
    switch("size", "Display total file sizes", short="s"),
)  # fmt: skip
def ps(session: Session, options: Options) -> None:
    if options.flag("quiet") and options.text("format"):
        complain("WARNING: Ignoring custom format, because both --format and --quiet are set.")
    sized = options.flag("size")
    source = table_format(
        options, TABLE + ("\t{{.Size}}" if sized else ""),
        raw=(RAW + ("size: {{.Size}}\n" if sized else ""), "container_id: {{.ID}}"),
    )  # fmt: skip
    limit = 1 if options.flag("latest") else options.number("last")
    asked = ".Size" in source or "json .}}" in source
    size = sized or (not options.flag("quiet") and asked)
    try:
        table.template_of(source)  # a mistake in it needs no daemon to be found
    except TemplateError as error:
        raise table.template_failure(error) from None
    found = session.engine.get(
        "/containers/json",
        {"all": options.flag("all"), "limit": limit if limit > 0 else None,
         "size": size, "filters": filters.query(options)},
    )  # fmt: skip
    rows = [row(each, session.now, not options.flag("no-trunc")) for each in found]
    table.write(rows, source, HEADERS, style=table.by_state if session.colour else None)


def table_format(
    options: Options, default: str, quiet: str = "{{.ID}}", raw: tuple[str, str] | None = None
) -> str:
    """What --format and -q together ask for; `raw`: docker's "raw" format, without and with -q."""
    given = options.text("format")
    if given == "raw" and raw:
        return raw[options.flag("quiet")]
    if given in ("", "table"):
        return quiet if options.flag("quiet") else default
    return quiet if options.flag("quiet") and not given.startswith("table") else given


def row(found: Json, now: float, trunc: bool = True) -> table.Line:
    def cut(text: str, width: int) -> str:
        return human.ellipsis(text, width) if trunc else text

    labels = found.get("Labels") or {}
    mounts = found.get("Mounts") or []
    fields: dict[str, Callable[[], object]] = {
        "ID": lambda: human.short_id(found["Id"]) if trunc else found["Id"],
        "Names": lambda: names(found["Names"], trunc),
        "Image": lambda: image(found, trunc),
        "Command": lambda: human.quoted(cut(found["Command"], 20)),
        "CreatedAt": lambda: human.moment(found["Created"]),
        "RunningFor": lambda: human.ago(found["Created"], now),
        "Ports": lambda: ports(found.get("Ports") or []),
        "State": lambda: found["State"],
        "Status": lambda: found["Status"],
        "Size": lambda: size_of(found),
        "Labels": lambda: human.labels(labels),
        "Mounts": lambda: ",".join(cut(m.get("Name") or m["Source"], 15) for m in mounts),
        "Platform": lambda: NIL,  # containerd's image stores have it
        "LocalVolumes": lambda: str(sum(m.get("Driver") == "local" for m in mounts)),
        "Networks": lambda: ",".join(
            sorted((found.get("NetworkSettings") or {}).get("Networks") or {})
        ),
    }
    return table.line(fields, Label=lambda name: labels.get(name, ""))


def names(found: Iterable[str], trunc: bool) -> str:
    """Without the slash; those of legacy links only when nothing is left out."""
    plain = [name.removeprefix("/") for name in found]
    if trunc:
        return next((name for name in plain if "/" not in name), "")
    return ",".join(plain)


def image(found: Json, trunc: bool) -> str:
    given = str(found["Image"])
    if not given:
        return "<no image>"
    short = human.short_id(found.get("ImageID") or "")
    if trunc and short and short == human.short_id(given):
        return short
    return given.partition("@")[0] if trunc and "@" in given else given


def size_of(found: Json) -> str:
    own = human.size(found.get("SizeRw") or 0)
    whole = found.get("SizeRootFs") or 0
    return f"{own} (virtual {human.size(whole)})" if whole > 0 else own


def ports(found: Iterable[Json]) -> str:
    """ "0.0.0.0:80->80/tcp, 8000-8003/udp": runs of ports that map to themselves are joined."""
    groups: list[tuple[tuple[str, str], list[int]]] = []
    last: dict[tuple[str, str], list[int]] = {}
    done: list[str] = []
    mapped: list[str] = []
    for port in sorted(found, key=_order):
        ip, proto, private = port.get("IP") or "", port["Type"], port["PrivatePort"]
        if ip and port.get("PublicPort") != private:
            mapped.append(f"{_host(ip)}:{port.get('PublicPort', 0)}->{private}/{proto}")
            continue
        key = (ip, proto)
        run = last.get(key)
        if run is not None and private == run[1] + 1:
            run[1] = private
            continue
        fresh = [private, private]
        if run is None:
            groups.append((key, fresh))
        else:
            done.append(_run(key, run))
            groups[next(n for n, (k, _) in enumerate(groups) if k == key)] = (key, fresh)
        last[key] = fresh
    return ", ".join([*done, *(_run(key, run) for key, run in groups), *mapped])


def _order(port: Json) -> tuple[int, tuple[int, ...], int, str]:
    ip = port.get("IP") or ""
    return port["PrivatePort"], _ip_order(ip), port.get("PublicPort") or 0, port["Type"]


def _ip_order(text: str) -> tuple[int, ...]:
    if not text:
        return ()
    from socket import AF_INET, AF_INET6, inet_pton

    if ":" in text:
        return (6, *inet_pton(AF_INET6, text.partition("%")[0]))
    return (4, *inet_pton(AF_INET, text))


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _run(key: tuple[str, str], run: list[int]) -> str:
    ip, proto = key
    span = str(run[0]) if run[0] == run[1] else f"{run[0]}-{run[1]}"
    return f"{_host(ip)}:{span}->{span}/{proto}" if ip else f"{span}/{proto}"
