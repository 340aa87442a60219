"""prune: of containers, images, networks, and of all that."""

from __future__ import annotations

import sys

from netkit.cli import filters, human, values
from netkit.cli.commands import NONE, command
from netkit.cli.flags import Flag, Options, switch, value
from netkit.client.failure import Failure, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.cli.session import Session

FORCE = switch("force", "Do not prompt for confirmation", short="f")
FILTER = filters.flag("", 'Provide filter values (e.g. "until=<timestamp>")')
ALL_IMAGES = "all images without at least one container associated to them"
FLAGS: Sequence[Flag] = (FORCE, FILTER)


@command("[OPTIONS]", NONE, *FLAGS)
def container(session: Session, options: Options) -> None:
    _confirm(options, "WARNING! This will remove all stopped containers.", "container prune")
    _total(_containers(session, filters.query(options)))


@command("[OPTIONS]", NONE, *FLAGS,
         switch("all", "Remove all unused images, not just dangling ones", short="a"))  # fmt: skip
def image(session: Session, options: Options) -> None:
    every = options.flag("all")
    what = ALL_IMAGES if every else "all dangling images"
    _confirm(options, f"WARNING! This will remove {what}.", "image prune")
    _total(_images(session, _dangling(options, every)))


@command("[OPTIONS]", NONE, FORCE, FILTER,
         switch("all", "Remove all unused build cache, not just dangling ones", short="a"),
         value("keep-storage", "bytes", values.size, "Amount of disk space to keep for cache",
               default=0))  # fmt: skip
def builder(session: Session, options: Options) -> None:
    every = options.flag("all")
    what = "all build cache" if every else "all dangling build cache"
    _confirm(options, f"WARNING! This will remove {what}.", "builder prune")
    query = {"all": every, "filters": filters.query(options),
             "keep-storage": options.number("keep-storage") or ""}  # fmt: skip
    report = session.engine.post("/build/prune", query) or {}
    _list("Deleted build cache objects", report.get("CachesDeleted"))
    _total(report.get("SpaceReclaimed") or 0)


@command("[OPTIONS]", NONE, *FLAGS)
def network(session: Session, options: Options) -> None:
    _confirm(
        options,
        "WARNING! This will remove all custom networks not used by at least one container.",
        "network prune",
    )
    _networks(session, filters.query(options))


@command(
    "[OPTIONS]", NONE,
    *FLAGS,
    switch("all", "Remove all unused images not just dangling ones", short="a"),
    switch("volumes", "Prune anonymous volumes"),
)  # fmt: skip
def system(session: Session, options: Options) -> None:
    every = options.flag("all")
    if options.flag("volumes") and any(key == "until" for key, _ in options.all("filter", tuple)):
        raise Misuse('the "until" filter is not supported with "--volumes"')
    warnings = [
        "all stopped containers",
        "all networks not used by at least one container",
        *(["all anonymous volumes not used by at least one container"]
          if options.flag("volumes") else []),
        ALL_IMAGES if every else "all dangling images",
    ]  # fmt: skip
    given = [f"{key}={wanted}" for key, wanted in options.all("filter", tuple)]
    text = "WARNING! This will remove:\n" + "".join(f"  - {each}\n" for each in warnings)
    if given:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {each}\n" for each in sorted(given))
    _confirm(options, text, "system prune")
    query = filters.query(options)
    freed = _containers(session, query)
    _networks(session, query)
    if options.flag("volumes"):
        freed += _volumes(session, query)
    _total(freed + _images(session, _dangling(options, every)))


@command(
    "[OPTIONS]", NONE,
    switch("all", "Remove all unused volumes, not just anonymous ones", short="a"),
    filters.flag("", 'Provide filter values (e.g. "label=<label>")'),
    FORCE,
)  # fmt: skip
def volume(session: Session, options: Options) -> None:
    every = options.flag("all")
    if every and any(key == "all" for key, _ in options.all("filter", tuple)):
        raise Misuse("conflicting options: cannot specify both --all and --filter all=1")
    what = "all" if every else "anonymous"
    _confirm(
        options,
        f"WARNING! This will remove {what} local volumes not used by at least one container.",
        "volume prune",
    )
    more = {"all": ["true"]} if every else {}
    _total(_volumes(session, filters.query(options, **more)))


def _confirm(options: Options, text: str, what: str) -> None:
    """Failure unless -f was given or the answer is yes."""
    if options.flag("force"):
        return
    print(f"{text}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline().strip().lower()
    if answer not in ("y", "yes"):
        if not sys.stdin.isatty():
            print()
        raise Failure(f"{what} has been cancelled")


def _dangling(options: Options, every: bool) -> str:
    return filters.query(options, dangling=["false" if every else "true"])


def _total(freed: int) -> None:
    print(f"Total reclaimed space: {human.size(freed, 4)}")


def _containers(session: Session, query: str) -> int:
    report = session.engine.post("/containers/prune", {"filters": query}) or {}
    _list("Deleted Containers", report.get("ContainersDeleted"))
    return report.get("SpaceReclaimed") or 0


def _networks(session: Session, query: str) -> None:
    report = session.engine.post("/networks/prune", {"filters": query}) or {}
    _list("Deleted Networks", report.get("NetworksDeleted"))
    for warning in report.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)


def _volumes(session: Session, query: str) -> int:
    report = session.engine.post("/volumes/prune", {"filters": query}) or {}
    _list("Deleted Volumes", report.get("VolumesDeleted"))
    return report.get("SpaceReclaimed") or 0


def _images(session: Session, query: str) -> int:
    report = session.engine.post("/images/prune", {"filters": query}) or {}
    _list(
        "Deleted Images",
        [f"untagged: {each['Untagged']}" if each.get("Untagged") else f"deleted: {each['Deleted']}"
         for each in report.get("ImagesDeleted") or ()],
    )  # fmt: skip
    return report.get("SpaceReclaimed") or 0


def _list(title: str, names: Sequence[str] | None) -> None:
    if names:
        print(f"{title}:")
        print("".join(f"{name}\n" for name in names))
