"""inspect, for containers, images, networks and volumes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from netkit.cli import table
from netkit.cli.commands import at_least, command, complain
from netkit.cli.flags import Options, switch, text
from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.cli.session import Session
from netkit.client.failure import Failure, Misuse, Refused

FORMAT = text("format", "Format output using a custom template: 'json' or a Go TEMPLATE", short="f")
SIZE = switch("size", "Display total file sizes if the type is container", short="s")
TEMPLATE_ERROR = 64
Getter = Callable[[str], Any]


def _getters(session: Session, size: bool = False) -> Mapping[str, Getter]:
    """How to get each type of object, in the order they are looked for."""
    get = session.engine.get
    return {
        "container": lambda name: get(f"/containers/{name.strip('/')}/json", {"size": size}),
        "image": lambda name: get(f"/images/{name}/json"),
        "network": lambda name: get(f"/networks/{name}"),
        "volume": lambda name: get(f"/volumes/{name}"),
    }


@command(
    "[OPTIONS] NAME|ID [NAME|ID...]", at_least(1),
    FORMAT, SIZE,
    text("type", "Only inspect objects of the given type: container, image, network or volume"),
)  # fmt: skip
def inspect(session: Session, options: Options) -> int:
    getters, kind = _getters(session, options.flag("size")), options.text("type")
    if kind and kind not in getters:
        raise Misuse(f'"{kind}" is not a valid value for --type: use {", ".join(getters)}')
    if kind:  # the daemon's own words about what is not there
        return _print(options, getters[kind])
    return _print(options, lambda name: _first(name, list(getters.values())))


@command("[OPTIONS] CONTAINER [CONTAINER...]", at_least(1), FORMAT,
         switch("size", "Display total file sizes", short="s"))  # fmt: skip
def container(session: Session, options: Options) -> int:
    return _print(options, _getters(session, options.flag("size"))["container"])


@command("[OPTIONS] IMAGE [IMAGE...]", at_least(1), FORMAT)
def image(session: Session, options: Options) -> int:
    return _print(options, _getters(session)["image"])


@command(
    "[OPTIONS] NETWORK [NETWORK...]", at_least(1), FORMAT,
    switch("verbose", "Verbose output for diagnostics", short="v"),
)  # fmt: skip
def network(session: Session, options: Options) -> int:
    query = {"verbose": "true" if options.flag("verbose") else ""}
    return _print(options, lambda name: session.engine.get(f"/networks/{name}", query))


@command("[OPTIONS] VOLUME [VOLUME...]", at_least(1), FORMAT)
def volume(session: Session, options: Options) -> int:
    return _print(options, _getters(session)["volume"])


def _first(name: str, getters: list[Getter]) -> Any:
    for get in getters:
        try:
            return get(name)
        except Refused as refused:
            if refused.status != 404:
                raise
    raise Failure(f"Error: No such object: {name}")


def _print(options: Options, get: Getter) -> int:
    """What was found, then what was wrong; 1 if anything was."""
    source = options.text("format")
    try:
        template = Template("{{json .}}" if source == "json" else source) if source else None
    except TemplateError as error:
        raise table.template_failure(error, TEMPLATE_ERROR) from None
    found: list[Any] = []
    errors: list[Failure] = []
    for name in options.args:
        try:
            found.append(get(name))
        except Failure as failure:
            errors.append(failure)
    try:
        if template is None:
            print(json.dumps(found, indent=4, ensure_ascii=False))
        else:
            sys.stdout.writelines(f"{template.render(each)}\n" for each in found)
    except TemplateError as error:
        raise table.template_failure(error) from None
    sys.stdout.flush()
    for each in errors:
        complain(str(each))
    return 1 if errors else 0
