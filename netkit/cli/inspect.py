"""inspect, for containers, images, networks and volumes."""

from __future__ import annotations

import json
import sys

from netkit.cli import table
from netkit.cli.commands import at_least, command, complain
from netkit.cli.flags import Options, switch, text
from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.cli.gotypes import typed
from netkit.cli.govalues import marshalled
from netkit.client.failure import Failure, Misuse, Refused
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

    from netkit.cli.session import Session

FORMAT = text("format", "Format output using a custom template: 'json' or a Go TEMPLATE", short="f")
SIZE = switch("size", "Display total file sizes if the type is container", short="s")
VOLUME = "Volume"


class Kind(Value):
    """A type of objects: its name in templates (netkit.cli.gotypes), and how to get one."""

    __slots__ = ("get", "go")

    def __init__(self, go: str, get: Callable[[str], Any]) -> None:
        self.go: Final = go
        self.get: Final = get


def _kinds(session: Session, size: bool = False) -> Mapping[str, Kind]:
    """Each type of object, in the order they are looked for."""
    get = session.engine.get
    return {
        "container": Kind(
            "Container", lambda name: get(f"/containers/{name.strip('/')}/json", {"size": size})
        ),
        "image": Kind("Image", lambda name: get(f"/images/{name}/json")),
        "network": Kind("Network", lambda name: get(f"/networks/{name}")),
        "volume": Kind(VOLUME, lambda name: get(f"/volumes/{name}")),
    }


@command(
    "[OPTIONS] NAME|ID [NAME|ID...]", at_least(1),
    FORMAT, SIZE,
    text("type", "Only inspect objects of the given type: container, image, network or volume"),
)  # fmt: skip
def inspect(session: Session, options: Options) -> int:
    kinds, kind = _kinds(session, options.flag("size")), options.text("type")
    if kind and kind not in kinds:
        raise Misuse(f'"{kind}" is not a valid value for --type: use {", ".join(kinds)}')
    if kind:  # the daemon's own words about what is not there
        return _print(options, _of(kinds[kind]))
    return _print(options, lambda name: _first(name, kinds.values()))


@command("[OPTIONS] CONTAINER [CONTAINER...]", at_least(1), FORMAT,
         switch("size", "Display total file sizes", short="s"))  # fmt: skip
def container(session: Session, options: Options) -> int:
    return _print(options, _of(_kinds(session, options.flag("size"))["container"]))


@command("[OPTIONS] IMAGE [IMAGE...]", at_least(1), FORMAT)
def image(session: Session, options: Options) -> int:
    return _print(options, _of(_kinds(session)["image"]))


@command(
    "[OPTIONS] NETWORK [NETWORK...]", at_least(1), FORMAT,
    switch("verbose", "Verbose output for diagnostics", short="v"),
)  # fmt: skip
def network(session: Session, options: Options) -> int:
    query = {"verbose": "true" if options.flag("verbose") else ""}
    get = session.engine.get
    return _print(options, _of(Kind("Network", lambda name: get(f"/networks/{name}", query))))


@command("[OPTIONS] VOLUME [VOLUME...]", at_least(1), FORMAT)
def volume(session: Session, options: Options) -> int:
    return _print(options, _of(_kinds(session)["volume"]), escaped=True)


def _of(kind: Kind) -> Callable[[str], tuple[str, Any]]:
    return lambda name: (kind.go, kind.get(name))


def _first(name: str, kinds: Iterable[Kind]) -> tuple[str, Any]:
    for kind in kinds:
        try:
            return kind.go, kind.get(name)
        except Refused as refused:
            if refused.status != 404:
                raise
    raise Failure(f"Error: No such object: {name}")


def _print(
    options: Options, get: Callable[[str], tuple[str, Any]], *, escaped: bool = False
) -> int:
    """What was found, then what was wrong; 1 if anything was.

    `escaped`: JSON as Go marshals it, as docker does for volumes, not as the daemon sent it.
    """
    source = options.text("format")
    try:
        template = Template(source) if source not in ("", "json") else None
    except TemplateError as error:
        raise table.template_failure(error, table.TEMPLATE_ERROR) from None
    found: list[Any] = []
    errors: list[str] = []
    for name in options.args:
        try:
            kind, value = get(name)
            found.append(template.inspect(kind, value) if template else value)
        except TemplateError as error:
            errors.append(str(table.template_failure(error)))
        except Failure as failure:
            errors.append(str(failure))
    if template:
        sys.stdout.write("".join(f"{each}\n" for each in found) or "\n")
    else:
        print(_document(found, None if source == "json" else 4, escaped))
    sys.stdout.flush()
    for each in errors:
        complain(each)
    return 1 if errors else 0


def _document(found: list[Any], indent: int | None, escaped: bool) -> str:
    if escaped:
        return marshalled([typed(VOLUME, each) for each in found], indent)
    marks = (",", ":") if indent is None else (",", ": ")
    return json.dumps(found, indent=indent, separators=marks, ensure_ascii=False)
