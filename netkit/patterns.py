"""Patterns for paths: Go's filepath.Match, and those of .dockerignore.  Pure.

The engine and its client read them alike.  A path is matched in time linear in its length, whatever
the pattern: it comes from the author of the file.
https://pkg.go.dev/path/filepath#Match, https://docs.docker.com/build/concepts/context/
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_BYTE_ORDER_MARK = "\ufeff"


class BadPattern(ValueError):
    """Go's ErrBadPattern."""

    def __init__(self) -> None:
        super().__init__("syntax error in pattern")


@dataclass(frozen=True, slots=True)
class _Token:
    """One step of the automaton: what it consumes, and whether it may stay or be skipped."""

    literal: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False
    any: bool = False  # one character but a slash
    loops: bool = False  # stays at characters but a slash
    loops_over: bool = False  # stays at any character
    skips: int = 0  # how many steps may be left out, beginning here

    def takes(self, char: str) -> bool:
        if self.literal:
            return char == self.literal
        if self.any:
            return char != "/"
        return bool(self.ranges) and (
            any(low <= char <= high for low, high in self.ranges) != self.negated
        )


_ANY = _Token(any=True)
_STAR = _Token(loops=True, skips=1)
_REST = _Token(loops_over=True, skips=1)
_FOLDERS = (_Token(skips=2), _Token(literal="/", loops_over=True))  # "(.*/)?"; entered by skipping


class Glob:
    """A pattern.  `double_star`: "**" matches across slashes, as in .dockerignore."""

    def __init__(self, pattern: str, *, double_star: bool = False) -> None:
        """BadPattern."""
        tokens = list(_tokens(pattern, double_star))
        wild = [n for n, token in enumerate(tokens) if not _plain(token)]
        first, last = (wild[0], wild[-1] + 1) if wild else (len(tokens), len(tokens))
        self._head = "".join(token.literal for token in tokens[:first])
        self._tail = "".join(token.literal for token in tokens[last:])
        self._tokens = tokens[first:last]
        self._skips = _bits(t.skips > 0 for t in self._tokens)
        self._skips_two = _bits(t.skips > 1 for t in self._tokens)
        self._loops = _bits(t.loops or t.loops_over for t in self._tokens)
        self._loops_over = _bits(t.loops_over for t in self._tokens)
        self._takes: dict[str, int] = {}

    def matches(self, path: str) -> bool:
        """Whether the pattern matches all of the path."""
        head, tail = self._head, self._tail
        if not self._tokens:
            return path == head
        if len(path) < len(head) + len(tail) or not path.startswith(head):
            return False
        if not path.endswith(tail):
            return False
        middle = path[len(head) : len(path) - len(tail)]
        if self._tokens == [_STAR]:
            return "/" not in middle
        return self._run(middle)

    def _run(self, text: str) -> bool:
        """Run all alternatives at once; bit n of `states`: the first n steps are done."""
        states = self._skipped(1)
        for char in text:
            takes = self._takes.get(char)
            if takes is None:
                takes = self._takes[char] = _bits(t.takes(char) for t in self._tokens)
            loops = self._loops_over if char == "/" else self._loops
            states = self._skipped(states & loops | (states & takes) << 1)
            if not states:
                return False
        return bool(states >> len(self._tokens) & 1)

    def _skipped(self, states: int) -> int:
        while True:
            more = states | (states & self._skips) << 1 | (states & self._skips_two) << 2
            if more == states:
                return states
            states = more


def _plain(token: _Token) -> bool:
    return bool(token.literal) and not token.loops_over


def _bits(flags: Iterator[bool]) -> int:
    return sum(1 << n for n, flag in enumerate(flags) if flag)


def _tokens(pattern: str, double_star: bool) -> Iterator[_Token]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and double_star and pattern[at : at + 1] == "*":
            begins = at == 1
            at += 1
            slash = pattern[at : at + 1] == "/"
            at += slash
            rest = pattern[at:]
            # Docker compares what follows a leading "**" as text, if it has nothing special.
            if not rest or (begins and not slash and not set(rest) & set("*?[]\\")):
                yield _REST
            else:
                yield from _FOLDERS
        elif char == "*":
            yield _STAR
        elif char == "?":
            yield _ANY
        elif char == "[":
            token, at = _class(pattern, at)
            yield token
        elif char == "\\":
            if at == len(pattern):
                raise BadPattern
            yield _Token(literal=pattern[at])
            at += 1
        else:
            yield _Token(literal=char)


def _class(pattern: str, at: int) -> tuple[_Token, int]:
    """The class whose "[" is before `at`, and where it ends.  It may match a slash."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern[at : at + 1] == "]"):
        low, at = _member(pattern, at)
        high = low
        if pattern[at] == "-":
            high, at = _member(pattern, at + 1)
        ranges.append((low, high))
    return _Token(ranges=tuple(ranges), negated=negated), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at : at + 1] in {"", "-", "]"}:
        raise BadPattern
    at += pattern[at] == "\\"
    if at + 1 >= len(pattern):  # there is at least the closing bracket to come
        raise BadPattern
    return pattern[at], at + 1


def ignore_lines(text: str) -> list[str]:
    """The patterns of a .dockerignore, as Docker's client 28 reads it; "!" marks exceptions."""
    found = []
    for line in text.removeprefix(_BYTE_ORDER_MARK).split("\n"):
        if line.startswith("#") or not (pattern := line.strip()):
            continue
        exception = pattern.startswith("!")
        if exception:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append("!" * exception + pattern)
    return found


def clean(path: str) -> str:
    """Go's filepath.Clean."""
    path = posixpath.normpath(path)
    return path[1:] if path.startswith("//") else path


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    glob: Glob
    exception: bool


class Ignored:
    """The patterns of a .dockerignore together: the last one that matches decides."""

    def __init__(self, lines: Sequence[str]) -> None:
        """BadPattern; ValueError for a "!" alone.  `lines` as `ignore_lines` gives them."""
        self._patterns: list[_Pattern] = []
        for line in lines:
            if not (text := line.strip()):
                continue
            text = clean(text)
            exception = text.startswith("!")
            text = text[exception:]
            if not text:
                raise ValueError('illegal exclusion pattern: "!"')
            self._patterns.append(_Pattern(text, Glob(text, double_star=True), exception))
        self.has_exceptions = any(pattern.exception for pattern in self._patterns)

    def matches(self, path: str) -> bool:
        """Whether a path is left out, or one of the folders it is in."""
        return self.look(path)[0]

    def look(self, path: str, above: Sequence[bool] = ()) -> tuple[bool, list[bool]]:
        """(left out, which patterns match).  `above`: the latter of the folder it is in."""
        left_out, each = False, [False] * len(self._patterns)
        for n, pattern in enumerate(self._patterns):
            match = bool(above) and above[n]
            if not match:
                if pattern.exception != left_out:
                    continue
                match = pattern.glob.matches(path) or (
                    not above and any(pattern.glob.matches(folder) for folder in _folders(path))
                )
            each[n] = match
            if match:
                left_out = not pattern.exception
        return left_out, each

    def may_keep_below(self, folder: str) -> bool:
        """Whether an exception begins with this folder's path, so that it must be looked into."""
        start = folder + "/"
        return any(p.exception and (p.text + "/").startswith(start) for p in self._patterns)


def _folders(path: str) -> Iterator[str]:
    at = path.find("/")
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)
