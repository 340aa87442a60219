"""Instructions of a Dockerfile as values; `checking` makes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    source: str  # as it is shown: "RUN echo a"

    @property
    def name(self) -> str:
        return type(self).__name__.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    base: str
    stage: str  # in lower case; "" without AS
    platform: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Env):
    literal: bool = False  # of `--label`: variables are not expanded


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    defaults: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Instruction):
    sources: tuple[str, ...]
    target: str
    chown: str = ""
    stage: str = ""  # --from


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Copy):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """`shell`: the command is one text for a shell."""

    command: tuple[str, ...]
    shell: bool
    flags: tuple[str, ...] = ()  # names of those that only BuildKit honours


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Run):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Run):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """Times in nanoseconds; 0 is the default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Instruction):
    """An instruction whose argument is the rest of the line."""

    text: str


class Workdir(Text):
    __slots__ = ()


class User(Text):
    __slots__ = ()


class Stopsignal(Text):
    __slots__ = ()


class Maintainer(Text):
    __slots__ = ()


class Onbuild(Text):
    """`text` is the instruction for the builds of children."""

    __slots__ = ()
