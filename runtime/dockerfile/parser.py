"""Split a Dockerfile into instructions: directives, comments, continued lines, flags, arguments.

Follows Docker's classic builder, whose here-documents are none: every line is an instruction.
`arguments` divides what follows the flags; how many an instruction takes is `checking`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runtime import limits
from runtime.dockerfile import arguments
from runtime.dockerfile.errors import SyntaxFault

_DIRECTIVES = frozenset({"escape", "syntax"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One instruction as it stands in the file."""

    line: int  # where it begins, from 1; 0 within ONBUILD
    original: str  # without blanks around it
    keyword: str  # in lower case
    flags: tuple[str, ...]  # "--from=x"
    arguments: tuple[str, ...]
    json: bool = False  # the arguments were a JSON list


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    nodes: tuple[Node, ...]
    escape: str  # "\\" or "`"
    warnings: tuple[str, ...]


def parse(data: bytes) -> Dockerfile:
    """SyntaxFault if it is no Dockerfile."""
    reader = _Reader(data)
    nodes, warnings = [], []
    for number, text, gap in reader.instructions():
        if gap:
            warnings.append(f"[WARNING]: Empty continuation line found in:\n    {text}")
        nodes.append(_node(text, reader.escape, number))
        if len(nodes) > limits.DOCKERFILE_INSTRUCTIONS:
            raise SyntaxFault(
                f"file with more than {limits.DOCKERFILE_INSTRUCTIONS} instructions"
            )
    if warnings:
        warnings.append("[WARNING]: Empty continuation lines will become errors in a future "
                        "release.")  # fmt: skip
    if not nodes:
        raise SyntaxFault("file with no instructions")
    return Dockerfile(nodes=tuple(nodes), escape=reader.escape, warnings=tuple(warnings))


class _Reader:
    """Logical lines of a file; directives at its top set `escape`."""

    def __init__(self, data: bytes) -> None:
        if len(data) > limits.DOCKERFILE_BYTES:
            raise SyntaxFault(f"file with more than {limits.DOCKERFILE_BYTES} bytes")
        self._lines = _physical(data.removeprefix(b"\xef\xbb\xbf"))
        self.escape = "\\"
        self._seen: set[str] = set()
        self._directives = True

    def instructions(self) -> Iterator[tuple[int, str, bool]]:
        """(line, text, whether empty lines were inside) of each instruction."""
        for number, indented in self._lines:
            line = indented.lstrip()
            self._directive(line)
            if line.startswith("#"):
                continue
            text, ends = self._continued(line)
            if ends and not text:
                continue
            more, gap = ("", False) if ends else self._rest()
            yield number, text + more, gap

    def _rest(self) -> tuple[str, bool]:
        """The lines that continue an instruction, and whether there were empty ones."""
        text, gap, ends = "", False, False
        while not ends and (following := next(self._lines, None)) is not None:
            line = following[1]
            if line.lstrip().startswith("#"):
                continue
            if not line.strip():
                gap = True
                continue
            more, ends = self._continued(line)
            text += more
        return text, gap

    def _continued(self, line: str) -> tuple[str, bool]:
        """The line without its continuation character, and whether the instruction ends."""
        bare = line.rstrip(" \t")
        escaped = bare.endswith(self.escape * 2)
        if bare.endswith(self.escape) and not escaped:
            return bare[:-1], False
        return line, True

    def _directive(self, line: str) -> None:
        if not self._directives:
            return
        before, _, after = line.partition("=")
        name, value = before.removeprefix("#").strip().lower(), after.strip()
        if not line.startswith("#") or name not in _DIRECTIVES or not value:
            self._directives = False
            return
        if name in self._seen:
            raise SyntaxFault(f"only one {name} parser directive can be used")
        self._seen.add(name)
        if name == "escape":
            if value not in {"`", "\\"}:
                raise SyntaxFault(f"invalid escape token '{value}' does not match ` or \\")
            self.escape = value


def _physical(data: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
        if len(raw) > limits.DOCKERFILE_LINE_BYTES:
            raise SyntaxFault(
                f"dockerfile line greater than max allowed size of {limits.DOCKERFILE_LINE_BYTES}"
            )
        yield number, raw.removesuffix(b"\r").decode("utf-8", "replace")


def _node(text: str, escape: str, line: int) -> Node:
    original = text.strip()
    words = arguments.BLANKS.split(original, maxsplit=1)
    keyword = words[0].lower()
    rest, flags = _flags(words[1]) if len(words) == 2 else ("", ())
    rest = rest.strip()
    read = _nested if keyword == "onbuild" else arguments.READERS.get(keyword, arguments.nothing)
    found, is_json = read(rest, escape, keyword)
    return Node(
        line=line, original=original, keyword=keyword, flags=flags, arguments=tuple(found),
        json=is_json,
    )  # fmt: skip


def _flags(text: str) -> tuple[str, tuple[str, ...]]:
    """Split leading --flags off: (the rest, the flags with quotes and escapes resolved)."""
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if not text.startswith("--", at):
            return text[at:], tuple(flags)
        word, at = _flag(text, at)
        if word == "--":
            return text[at:], tuple(flags)
        if word:
            flags.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """One word of a flag from `at`, where a backslash escapes and quotes keep blanks."""
    word, quote = "", ""
    while at < len(text):
        char = text[at]
        if not quote and char.isspace():
            break
        at += 1
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\":
            word += text[at : at + 1]
            at += 1
        else:
            word += char
    return word, at


def _nested(rest: str, escape: str, keyword: str) -> arguments.Read:
    """ONBUILD: the keyword and the arguments of what it has, which must be well-formed itself."""
    if not rest:
        return [], False
    inner = _node(rest, escape, 0)
    return [inner.keyword, *inner.arguments], inner.json
