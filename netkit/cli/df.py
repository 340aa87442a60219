"""system df: what takes space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from netkit.cli import human, images, ps, table
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Options, switch, text
from netkit.cli.session import Session
from netkit.client.engine import Json
from netkit.client.failure import Misuse

TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"
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
    if verbose and source not in ("", "table"):
        raise Misuse("the verbose listing has its own format: drop -v or --format")
    found = session.engine.get("/system/df")
    if verbose:
        _verbose(found, session.now)
        return
    rows = [_usage(*each) for each in usages(found)]
    table.write(rows, source if source not in ("", "table") else TABLE, HEADERS)


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
    pictures = [
        images.row(each, next(iter(images.tagged(each, False, False))), now, True)
        for each in found.get("Images") or ()
    ]
    table.write(pictures, IMAGES, images.HEADERS)
    print("\nContainers space usage:\n")
    boxes = [{**each, "SizeRootFs": 0} for each in found.get("Containers") or ()]
    table.write([ps.row(each, now) for each in boxes], CONTAINERS, ps.HEADERS)
    print("\nLocal Volumes space usage:\n")
    volumes = [_volume(each) for each in found.get("Volumes") or ()]
    headers = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}
    table.write(volumes, VOLUMES, headers)


def _volume(found: Json) -> table.Line:
    usage = found.get("UsageData") or {}
    fields: dict[str, Callable[[], object]] = {
        "Name": lambda: found["Name"],
        "Links": lambda: str(usage.get("RefCount", "N/A")),
        "Size": lambda: human.size(usage["Size"], 4) if "Size" in usage else "N/A",
    }
    return table.line(fields)
