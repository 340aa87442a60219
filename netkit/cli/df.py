"""system df: what takes space."""

from __future__ import annotations

import sys

from netkit.cli import human, images, ps, table, volume
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Options, switch, text
from netkit.cli.goformat import render
from netkit.cli.gotemplate import TemplateError
from netkit.cli.govalues import Field, Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
RAW = (
    "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n"
    "reclaimable: {{.Reclaimable}}\n"
)
HEADERS = {
    "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}  # fmt: skip
IMAGES = images.TABLE + "\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
CONTAINERS = (
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}"
    "\t{{.Status}}\t{{.Names}}"
)
VOLUMES = "table {{.Name}}\t{{.Links}}\t{{.Size}}"


@command(
    "[OPTIONS]", NONE,
    text("format", ps.FORMAT_HELP),
    switch("verbose", "Show detailed information on space usage", short="v"),
)  # fmt: skip
def df(session: Session, options: Options) -> None:
    verbose, source = options.flag("verbose"), options.text("format")
    found = session.engine.get("/system/df")
    if not verbose:
        rows = [_usage(*each) for each in usages(found)]
        source = {"": TABLE, "table": TABLE, "raw": RAW}.get(source, source)
        table.write(rows, source, HEADERS)
    elif source in ("", "table"):
        _verbose(found, session.now)
    else:
        _formatted(found, session.now, source)


def usages(found: Json) -> list[tuple[str, int, int, int, int]]:
    """Type, how many, how many in use, bytes, bytes that could be freed."""
    pictures, boxes = found.get("Images") or [], found.get("Containers") or []
    volumes, caches = found.get("Volumes") or [], found.get("BuildCache") or []
    total = found.get("LayersSize") or 0
    used = sum(
        each["Size"] - each["SharedSize"] for each in pictures
        if each.get("Containers") and -1 not in (each["Size"], each["SharedSize"])
    )  # fmt: skip
    live = [each for each in boxes if each["State"] in ("running", "paused", "restarting")]
    written = sum(each.get("SizeRw") or 0 for each in boxes)
    kept = sum(each.get("SizeRw") or 0 for each in live)
    mounted = [each for each in volumes if (each.get("UsageData") or {}).get("RefCount", 0) > 0]
    cached = sum(each["Size"] for each in caches if not each.get("Shared"))
    in_use = [each for each in caches if each.get("InUse")]
    return [
        ("Images", len(pictures), sum(each.get("Containers", 0) > 0 for each in pictures),
         total, total - used),
        ("Containers", len(boxes), len(live), written, written - kept),
        ("Local Volumes", len(volumes), len(mounted), _volume_bytes(volumes),
         _volume_bytes(volumes) - _volume_bytes(mounted)),
        ("Build Cache", len(caches), len(in_use), cached,
         cached - sum(each["Size"] for each in in_use if not each.get("Shared"))),
    ]  # fmt: skip


def _volume_bytes(volumes: Sequence[Json]) -> int:
    return sum(max(0, (each.get("UsageData") or {}).get("Size", 0)) for each in volumes)


def _usage(kind: str, count: int, active: int, size: int, free: int) -> table.Line:
    share = f" ({int(free * 100 / size)}%)" if size > 0 and kind != "Build Cache" else ""
    fields: dict[str, Callable[[], object]] = {
        "Type": lambda: kind,
        "TotalCount": lambda: str(count),
        "Active": lambda: str(active),
        "Size": lambda: human.size(size, 4),
        "Reclaimable": lambda: human.size(free, 4) + share,
    }
    return table.line(fields)


def _verbose(found: Json, now: float) -> None:
    print("Images space usage:\n")
    table.write(_images(found, now, True), IMAGES, images.HEADERS)
    print("\nContainers space usage:\n")
    table.write(_containers(found, now, True), CONTAINERS, ps.HEADERS)
    print("\nLocal Volumes space usage:\n")
    table.write(_volumes(found), VOLUMES, volume.HEADERS)


def _formatted(found: Json, now: float, source: str) -> None:
    """One template for all: {{range .Images}}…{{end}}, .Containers, .Volumes, .BuildCache."""
    lists = {
        "Images": _images(found, now, False), "Containers": _containers(found, now, False),
        "Volumes": _volumes(found), "BuildCache": [],
    }  # fmt: skip
    fields = tuple(Field(name, name, False, "list", False) for name in lists)
    value = Struct("DiskUsage", fields, tuple(lists.values()), by_key=False)
    source = "{{json .}}" if source == "json" else table.unescaped(source)
    try:
        sys.stdout.write(render(source, value))
    except TemplateError as error:
        raise table.template_failure(error) from None


def _images(found: Json, now: float, trunc: bool) -> list[table.Line]:
    shown = []
    for each in found.get("Images") or ():
        repository, tag, _ = next(iter(images.tagged(each, False, False)))
        shown.append(images.row(each, (repository, tag, ""), now, trunc))
    return shown


def _containers(found: Json, now: float, trunc: bool) -> list[table.Line]:
    boxes = [{**each, "SizeRootFs": 0} for each in found.get("Containers") or ()]
    return [ps.row(each, now, trunc) for each in boxes]


def _volumes(found: Json) -> list[table.Line]:
    return [volume.row(each) for each in found.get("Volumes") or ()]
