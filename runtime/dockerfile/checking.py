"""Instructions of a Dockerfile's lines, or the errors of Docker's classic builder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from runtime.dockerfile import gotext
from runtime.dockerfile.errors import InstructionFault
from runtime.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    Text,
    User,
    Volume,
    Workdir,
)
from runtime.dockerfile.parser import Node

SHORTEST_HEALTH = 1_000_000  # ns; of the intervals of health checks
_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_ONBUILD = re.compile(r"^\s*ONBUILD\s*", re.IGNORECASE)


def instruction(node: Node) -> Instruction:
    """InstructionFault if it cannot be."""
    try:
        make = _MAKERS.get(node.keyword)
        if make is None:
            raise _Fault(f"unknown instruction: {node.keyword.upper()}")
        return make(node)
    except _Fault as fault:
        raise InstructionFault(node.line, str(fault)) from None


class _Fault(Exception):
    pass


def _flags(node: Node, *allowed: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for flag in node.flags:
        name, equals, value = flag[2:].partition("=")
        if name not in allowed:
            raise _Fault(f"Unknown flag: {name}")
        if name in found:
            raise _Fault(f"Duplicate flag specified: {name}")
        if not equals:
            raise _Fault(f"Missing a value on flag: {name}")
        found[name] = value
    return found


def _one(node: Node) -> str:
    if len(node.arguments) != 1:
        raise _Fault(f"{node.keyword.upper()} requires exactly one argument")
    return node.arguments[0]


def _some(node: Node) -> tuple[str, ...]:
    if not node.arguments:
        raise _Fault(f"{node.keyword.upper()} requires at least one argument")
    return node.arguments


def _from(node: Node) -> From:
    words = node.arguments
    stage = ""
    if len(words) == 3 and words[1].lower() == "as":
        stage = words[2].lower()
        if not _STAGE_NAME.fullmatch(stage):
            raise _Fault(f"invalid name for build stage: {gotext.quoted(words[2])}, name can't "
                         "start with a number or contain symbols")  # fmt: skip
    elif len(words) != 1:
        raise _Fault("FROM requires either one or three arguments")
    flags = _flags(node, "platform")
    return From(
        source=node.original, base=words[0], stage=stage, platform=flags.get("platform", "")
    )


_Pairs = TypeVar("_Pairs", Env, Label)


def _pairs(kind: type[_Pairs]) -> Callable[[Node], _Pairs]:
    def make(node: Node) -> _Pairs:
        _flags(node)
        words = _some(node)
        pairs = tuple(zip(words[::2], words[1::2], strict=True))
        if not all(name for name, _ in pairs):
            raise _Fault(f"{node.keyword.upper()} names can not be blank")
        return kind(source=node.original, pairs=pairs)

    return make


def _arg(node: Node) -> Arg:
    defaults: list[tuple[str, str | None]] = []
    for word in _some(node):
        name, equals, value = word.partition("=")
        if equals and not name:
            raise _Fault("ARG names can not be blank")
        defaults.append((name, value if equals else None))
    return Arg(source=node.original, defaults=tuple(defaults))


def _copy(kind: type[Copy], *allowed: str) -> Callable[[Node], Copy]:
    def make(node: Node) -> Copy:
        if len(node.arguments) < 2:
            raise _Fault(f"{node.keyword.upper()} requires at least two arguments, but only one "
                         "was provided. Destination could not be determined")  # fmt: skip
        flags = _flags(node, *allowed)
        return kind(
            source=node.original,
            sources=node.arguments[:-1],
            target=node.arguments[-1],
            chown=flags.get("chown", ""),
            stage=flags.get("from", ""),
        )

    return make


def _run(node: Node) -> Run:
    flags = tuple(flag[2:].partition("=")[0] for flag in node.flags)
    for name in flags:
        if name not in {"mount", "network", "security"}:
            raise _Fault(f"Unknown flag: {name}")
    return Run(source=node.original, command=node.arguments, shell=not node.json, flags=flags)


_Command = TypeVar("_Command", Cmd, Entrypoint)


def _command(kind: type[_Command]) -> Callable[[Node], _Command]:
    def make(node: Node) -> _Command:
        _flags(node)
        return kind(source=node.original, command=node.arguments, shell=not node.json)

    return make


def _shell(node: Node) -> Shell:
    _flags(node)
    if not node.arguments:
        raise _Fault("SHELL requires at least one argument")
    if not node.json:
        raise _Fault("SHELL requires the arguments to be in JSON form")
    return Shell(source=node.original, command=node.arguments)


def _healthcheck(node: Node) -> Healthcheck:
    kind, *words = _some(node)
    if kind.upper() == "NONE":
        if words:
            raise _Fault("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(source=node.original, test=("NONE",))
    flags = _flags(node, "interval", "timeout", "start-period", "start-interval", "retries")
    if kind.upper() != "CMD":
        raise _Fault(f"Unknown type {gotext.quoted(kind.upper())} in HEALTHCHECK (try CMD)")
    if not words:
        raise _Fault("Missing command after HEALTHCHECK CMD")
    return Healthcheck(
        source=node.original,
        test=("CMD" if node.json else "CMD-SHELL", *words),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.get("retries", "")),
    )


def _interval(flags: Mapping[str, str], name: str) -> int:
    if not (text := flags.get(name, "")):
        return 0
    try:
        value = gotext.duration(text)
    except ValueError as error:
        raise _Fault(str(error)) from None
    if value < SHORTEST_HEALTH:
        raise _Fault(f'Interval "{name}" cannot be less than 1ms')
    return value


def _retries(text: str) -> int:
    if not text:
        return 0
    try:
        value = gotext.integer(text, 32)
    except ValueError as error:
        raise _Fault(str(error)) from None
    if value < 1:
        raise _Fault(f"--retries must be at least 1 (not {value})")
    return value


def _expose(node: Node) -> Expose:
    words = _some(node)
    _flags(node)
    return Expose(source=node.original, ports=tuple(sorted(words)))


def _volume(node: Node) -> Volume:
    words = tuple(word.strip() for word in _some(node))
    _flags(node)
    if not all(words):
        raise _Fault("VOLUME specified can not be an empty string")
    return Volume(source=node.original, paths=words)


_OneText = TypeVar("_OneText", bound=Text)


def _text(kind: type[_OneText]) -> Callable[[Node], _OneText]:
    def make(node: Node) -> _OneText:
        text = _one(node)
        _flags(node)
        return kind(source=node.original, text=text)

    return make


def _onbuild(node: Node) -> Onbuild:
    keyword = _some(node)[0].strip().upper()
    _flags(node)
    if keyword == "ONBUILD":
        raise _Fault("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in {"MAINTAINER", "FROM"}:
        raise _Fault(f"{keyword} isn't allowed as an ONBUILD trigger")
    return Onbuild(source=node.original, text=_ONBUILD.sub("", node.original))


_MAKERS: dict[str, Callable[[Node], Instruction]] = {
    "add": _copy(Add, "chown"),
    "arg": _arg,
    "cmd": _command(Cmd),
    "copy": _copy(Copy, "chown", "from"),
    "entrypoint": _command(Entrypoint),
    "env": _pairs(Env),
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _pairs(Label),
    "maintainer": _text(Maintainer),
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _text(Stopsignal),
    "user": _text(User),
    "volume": _volume,
    "workdir": _text(Workdir),
}
