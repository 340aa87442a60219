"""Listings: rows through --format; columns as docker's (Go's tabwriter) aligns them."""

from __future__ import annotations

import sys

from netkit.cli.goformat import Template
from netkit.cli.gotemplate import TemplateError
from netkit.cli.govalues import Row
from netkit.client.failure import Failure, Misuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from netkit.cli.flags import Options
    from netkit.cli.gofunctions import Function

    Style = Callable[[str, str], str]  # column's header, cell as it is printed

TEMPLATE_ERROR = 64  # the exit code of commands that take a template for one thing
LEAST_WIDTH, PADDING = 10, 3
BOLD, GREEN, RED, YELLOW, RESET = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"

# In the line of headers a function leaves its column's name alone.
HEADER_FUNCTIONS: Mapping[str, Function] = {
    name: (lambda text, *rest: text)
    for name in ("json", "split", "join", "title", "lower", "upper", "truncate")
}


class Line(Row):
    """A row whose fields are computed when asked for; `methods` take arguments."""

    __slots__ = ("fields", "methods")

    def __init__(
        self,
        fields: Mapping[str, Callable[[], object]],
        methods: Mapping[str, Callable[..., object]],
    ) -> None:
        self.fields, self.methods = fields, methods

    def names(self) -> Sequence[str]:
        return sorted(self.fields)

    def field(self, name: str, args: Sequence[object]) -> object:
        if name in self.methods:
            return self.methods[name](*args)
        if args:
            raise TemplateError(f".{name} takes no arguments")
        return self.fields[name]()


def line(fields: Mapping[str, Callable[[], object]], **methods: Callable[..., object]) -> Line:
    return Line(fields, methods)


class _Headers(Row):
    """The row of column names."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def names(self) -> Sequence[str]:
        return sorted(self.headers)

    def field(self, name: str, args: Sequence[object]) -> object:
        if name == "Label" and args:
            return str(args[0]).replace("-", " ").replace(".", " ")
        return self.headers[name]


def write(
    rows: Iterable[Line], source: str, headers: Mapping[str, str], *, style: Style | None = None
) -> None:
    """Print a listing; `source` is "json", a template, or a "table" template."""
    try:
        text = listing(list(rows), source, headers, style=style)
    except TemplateError as error:
        raise template_failure(error) from None
    sys.stdout.write(text)


def template_failure(error: TemplateError, code: int = 1) -> Failure:
    return Failure(f"template parsing error: {error}", code)


def listing(
    rows: Sequence[Line], source: str, headers: Mapping[str, str], *, style: Style | None = None
) -> str:
    template = template_of(source)
    if not source.startswith("table"):
        return "".join(f"{template.render(row)}\n" for row in rows)
    body = "".join(f"{template.render(row)}\n" for row in rows)
    head = Template(unescaped(source), HEADER_FUNCTIONS).render(_Headers(headers))
    return aligned(f"{head}\n{body}", style)


def template_of(source: str) -> Template:
    return Template("{{json .}}" if source == "json" else unescaped(source))


def unescaped(source: str) -> str:
    """Without the word `table`, and with the two escapes people type in shells."""
    return source.removeprefix("table").strip(" ").replace("\\t", "\t").replace("\\n", "\n")


def aligned(
    text: str, style: Style | None = None, least: int = LEAST_WIDTH, padding: int = PADDING
) -> str:
    """Tab-separated cells in columns; a column ends where a line has no such cell."""
    lines = [row.split("\t") for row in text.split("\n")]
    widths = _widths(lines, least, padding)
    out = []
    for number, cells in enumerate(lines):
        shown = []
        for at, cell in enumerate(cells):
            padded = cell if at == len(cells) - 1 else cell.ljust(widths[number][at])
            if style is not None and number == 0:
                padded = f"{BOLD}{padded}{RESET}" if cell else padded
            elif style is not None and at < len(lines[0]):
                padded = style(lines[0][at], padded)
            shown.append(padded)
        out.append("".join(shown))
    return "\n".join(out)


def _widths(lines: Sequence[Sequence[str]], least: int, padding: int) -> list[list[int]]:
    """For each line the widths of its cells but the last, which is never padded."""
    found: list[list[int]] = [[] for _ in lines]

    def block(first: int, last: int, column: int) -> None:
        """Lines first..last-1, all of which have cell `column` and a later one."""
        width = max(least, *(len(lines[n][column]) + padding for n in range(first, last)))
        for n in range(first, last):
            found[n].append(width)
        runs(first, last, column + 1)

    def runs(first: int, last: int, column: int) -> None:
        start = first
        while start < last:
            end = start
            while end < last and len(lines[end]) > column + 1:
                end += 1
            if end > start:
                block(start, end, column)
            start = end + 1

    runs(0, len(lines), 0)
    return found


def by_state(header: str, cell: str) -> str:
    """Colours for STATUS and STATE."""
    if header not in ("STATUS", "STATE"):
        return cell
    word = cell.split(" ", maxsplit=1)[0].lower()
    if "unhealthy" in cell or "Restarting" in cell or word in ("dead", "removing"):
        return f"{RED}{cell}{RESET}"
    if "(Paused)" in cell or "starting" in cell or word in ("paused", "created"):
        return f"{YELLOW}{cell}{RESET}"
    if word in ("up", "running"):
        return f"{GREEN}{cell}{RESET}"
    return cell


def wants_json(options: Options) -> bool:
    """For commands whose --format is json or nothing; Misuse for anything else."""
    if (given := options.text("format")) not in {"", "json"}:
        raise Misuse(f"invalid format {given!r}: json, or nothing for text", 1)
    return given == "json"
