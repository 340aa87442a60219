"""Command-line flags as values, and docker's (pflag's) way of reading them.  Pure.

What differs from click's parser and matters to scripts: `-e=X` is the value "X", booleans take
`=false` (`--sig-proxy=false`, `-d=false`), names are never abbreviated, and after the image of
`run` everything belongs to the container.
"""

from __future__ import annotations

from netkit.client.failure import ENGINE_ERROR, Misuse
from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Final, TypeVar

    T = TypeVar("T")

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class Flag(Value):
    """One flag; `parse` turns its text into a value and raises ValueError with the reason.

    `kind` is how --help names the value, "bool" takes none; `default` that of one that was not
    given; `refused` why there is no such flag here, and what to use instead.
    """

    __slots__ = ("default", "help", "hidden", "kind", "many", "name", "parse", "refused", "short")

    def __init__(
        self, *, name: str, help: str = "", short: str = "", kind: str = "string",
        parse: Callable[[str], object] = str, many: bool = False, default: object = None,
        hidden: bool = False, refused: str = "",
    ) -> None:  # fmt: skip
        self.name: Final = name
        self.help: Final = help
        self.short: Final = short
        self.kind: Final = kind
        self.parse: Final = parse
        self.many: Final = many
        self.default: Final = default
        self.hidden: Final = hidden
        self.refused: Final = refused

    @property
    def title(self) -> str:
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


def boolean(text: str) -> bool:
    if text in TRUE or text in FALSE:
        return text in TRUE
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def switch(name: str, help: str = "", *, short: str = "", default: bool | None = False) -> Flag:
    """A boolean; `default=None` distinguishes "not given" from `--name=false`."""
    return Flag(name=name, help=help, short=short, kind="bool", parse=boolean, default=default)


def text(name: str, help: str = "", *, short: str = "", default: str = "") -> Flag:
    return Flag(name=name, help=help, short=short, default=default)


def value(
    name: str, kind: str, parse: Callable[[str], object], help: str = "", *, short: str = "",
    default: object = None,
) -> Flag:  # fmt: skip
    return Flag(name=name, help=help, short=short, kind=kind, parse=parse, default=default)


def many(
    name: str, help: str = "", *, short: str = "", kind: str = "list",
    parse: Callable[[str], object] = str,
) -> Flag:  # fmt: skip
    return Flag(name=name, help=help, short=short, kind=kind, parse=parse, many=True)


def alias(flag: Flag, name: str) -> Flag:
    """The same flag under an older, hidden name; its value is found under the first name."""
    return Flag(
        name=name, kind=flag.kind, parse=flag.parse, many=flag.many, hidden=True,
        default=_Alias(flag.name),
    )  # fmt: skip


class _Alias(Value):
    __slots__ = ("of",)

    def __init__(self, of: str) -> None:
        self.of: Final = of


class Options(Value):
    """The flags given to one command, and its arguments; `path` as typed: "netkit container ls"."""

    __slots__ = ("args", "given", "path", "values")

    def __init__(
        self, values: Mapping[str, object], args: tuple[str, ...] = (),
        given: frozenset[str] = frozenset(), path: str = "netkit",
    ) -> None:  # fmt: skip
        self.values: Final = values
        self.args: Final = args
        self.given: Final = given
        self.path: Final = path

    def flag(self, name: str) -> bool:
        return bool(self.values[name])

    def text(self, name: str) -> str:
        found = self.values[name]
        return found if isinstance(found, str) else ""

    def texts(self, name: str) -> list[str]:
        return self.all(name, str)

    def number(self, name: str) -> int:
        found = self.values[name]
        return found if isinstance(found, int) else 0

    def optional_flag(self, name: str) -> bool | None:
        found = self.values[name]
        return found if isinstance(found, bool) else None

    def all(self, name: str, kind: type[T]) -> list[T]:
        """Every value of a flag that may be repeated."""
        found: Any = self.values[name] or ()
        return [each for each in found if isinstance(each, kind)]


class WantsHelp(Exception):
    """`--help` was given."""


def read(
    flags: Sequence[Flag], argv: Sequence[str], path: str, *, interspersed: bool = True
) -> Options:
    """Misuse names the flag that is unknown, lacks its value or has a bad one."""
    return _Reader(flags, path).read(list(argv), interspersed)


class _Reader:
    def __init__(self, flags: Sequence[Flag], path: str) -> None:
        self.path = path
        self.long = {flag.name: flag for flag in flags}
        self.short = {flag.short: flag for flag in flags if flag.short}
        self.found: dict[str, object] = {
            flag.name: () if flag.many else flag.default
            for flag in flags
            if not isinstance(flag.default, _Alias)
        }
        self.given: set[str] = set()

    def read(self, argv: list[str], interspersed: bool) -> Options:
        args: list[str] = []
        while argv:
            word = argv.pop(0)
            if word == "--":
                args += argv
                break
            if word.startswith("--"):
                self._long(word, argv)
            elif word.startswith("-") and word != "-":
                self._short(word, argv)
            elif interspersed:
                args.append(word)
            else:
                args += [word, *argv]
                break
        return Options(self.found, tuple(args), frozenset(self.given), self.path)

    def _long(self, word: str, argv: list[str]) -> None:
        name, equals, given = word[2:].partition("=")
        flag = self.long.get(name)
        if flag is None:
            if name == "help":
                raise WantsHelp
            from netkit.cli.absent import FLAGS

            if name in FLAGS:
                raise self._misuse(f"--{name} is not supported: {FLAGS[name]}")
            raise self._misuse(f"unknown flag: --{name}", self._near(name))
        self._known(flag, f"--{name}")
        if equals:
            self._set(flag, given)
        elif flag.kind == "bool":
            self._set(flag, "true")
        elif argv:
            self._set(flag, argv.pop(0))
        else:
            raise self._misuse(f"flag needs an argument: --{name}")

    def _short(self, word: str, argv: list[str]) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = self.short.get(letter)
            if flag is None:
                if letter == "h":
                    raise WantsHelp
                raise self._misuse(
                    f"unknown shorthand flag: {letter!r} in {word}", self._long_of(word)
                )
            self._known(flag, f"-{letter}")
            if letters.startswith("="):
                return self._set(flag, letters[1:])
            if flag.kind == "bool":
                self._set(flag, "true")
                continue
            if letters:
                return self._set(flag, letters)
            if not argv:
                raise self._misuse(f"flag needs an argument: {letter!r} in {word}")
            return self._set(flag, argv.pop(0))

    def _known(self, flag: Flag, word: str) -> None:
        if flag.refused:
            raise self._misuse(f"{word} {flag.refused}")

    def _set(self, flag: Flag, given: str) -> None:
        try:
            parsed = flag.parse(given)
        except ValueError as error:
            raise self._misuse(
                f'invalid argument "{given}" for "{flag.title}" flag: {error}'
            ) from None
        name = flag.default.of if isinstance(flag.default, _Alias) else flag.name
        if flag.many:
            before: Any = self.found[name]
            more = parsed if isinstance(parsed, tuple) else (parsed,)
            self.found[name] = (*before, *more)
        else:
            self.found[name] = parsed
        self.given.add(name)

    def _near(self, name: str) -> str:
        from netkit.suggestion import nearest

        close = nearest(name, [n for n, f in self.long.items() if not f.hidden])
        return f", did you mean --{close}?" if close else ""

    def _long_of(self, word: str) -> str:
        """A long flag with one dash, as Go's own programs have them."""
        name = word[1:].partition("=")[0]
        return f", did you mean --{name}?" if name in self.long else ""

    def _misuse(self, reason: str, hint: str = "") -> Misuse:
        return Misuse(f"{reason}{hint} (see '{self.path} --help')", ENGINE_ERROR)
