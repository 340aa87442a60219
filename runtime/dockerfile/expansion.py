"""Expand variables in a word of a Dockerfile, and resolve its quotes and escapes.

$x, ${x}, ${x:-word}, ${x:+word}, ${x:?message} and ${x?message}; no other form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime import limits
from runtime.dockerfile.errors import ExpansionFault
from runtime.dockerfile.gotext import quoted

_SPECIAL = frozenset("@*#?-$!")
_SHOWN = 2000  # characters of a bad word
_NESTING = 50  # ${a:-${b:-...}}


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """The value of each NAME=VALUE; the first of a name counts."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found.setdefault(name, value)
    return found


def word(text: str, values: Mapping[str, str], escape: str = "\\") -> str:
    """The word expanded.  ExpansionFault names it."""
    return "".join(_expanded(text, values, escape).parts)


def words(text: str, values: Mapping[str, str], escape: str = "\\") -> list[str]:
    """As `word`, split at blanks outside quotes, those of variables included."""
    return _expanded(text, values, escape).words()


def _expanded(text: str, values: Mapping[str, str], escape: str) -> _Pieces:
    try:
        return _Word(text, values, escape).until("")
    except ExpansionFault as fault:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise ExpansionFault(f"failed to process {quoted(shown)}: {fault}") from None


class _Pieces:
    """What a word expands to; `_plain` says of each part whether blanks in it separate."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._plain: list[bool] = []
        self._size = 0

    def add(self, text: str, *, plain: bool) -> None:
        self._size += len(text)
        if self._size > limits.DOCKERFILE_WORD_BYTES:
            raise ExpansionFault(
                f"it expands to more than {limits.DOCKERFILE_WORD_BYTES} bytes"
            )
        self.parts.append(text)
        self._plain.append(plain)

    def words(self) -> list[str]:
        found, current = [], ""
        for part, plain in zip(self.parts, self._plain, strict=True):
            if not plain:
                current += part
                continue
            for char in part:
                if not char.isspace():
                    current += char
                elif current:
                    found.append(current)
                    current = ""
        return [*found, current] if current else found


class _Word:
    def __init__(self, text: str, values: Mapping[str, str], escape: str) -> None:
        self._text, self._values, self._escape = text, values, escape
        self._at = 0
        self._depth = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def until(self, stop: str) -> _Pieces:
        """Expand up to the character `stop`, which is consumed; "" is the end."""
        out = _Pieces()
        while char := self._peek():
            if char == stop:
                self._next()
                return out
            if char == "'":
                out.add(self._single(), plain=False)
            elif char == '"':
                out.add(self._double(), plain=False)
            elif char == "$":
                out.add(self._dollar(), plain=True)
            elif self._next() == self._escape:
                out.add(self._next(), plain=False)
            else:
                out.add(char, plain=True)
        if stop:
            raise ExpansionFault(f"unexpected end of statement while looking for matching {stop}")
        return out

    def _single(self) -> str:
        self._next()
        end = self._text.find("'", self._at)
        if end < 0:
            self._at = len(self._text)
            raise ExpansionFault(
                "unexpected end of statement while looking for matching single-quote"
            )
        found, self._at = self._text[self._at : end], end + 1
        return found

    def _double(self) -> str:
        self._next()
        out: list[str] = []
        while char := self._peek():
            if char == "$":
                out.append(self._dollar())
                continue
            self._next()
            if char == '"':
                return "".join(out)
            if char == self._escape:
                if not self._peek():
                    continue
                if self._peek() in {'"', "$", self._escape}:
                    char = self._next()
            out.append(char)
        raise ExpansionFault("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._name()
            return self._values.get(name, "") if name else "$"
        self._next()
        if not self._peek():
            raise ExpansionFault("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise ExpansionFault("syntax error: bad substitution")
        name = self._name()
        after = self._next()
        if after == "}":
            return self._values.get(name, "")
        if after == "?":
            return self._required(name, self._alternative(), empty=True)
        if after == ":":
            return self._modified(name, self._next())
        raise ExpansionFault("missing ':' in substitution")

    def _modified(self, name: str, modifier: str) -> str:
        other = self._alternative()
        value = self._values.get(name, "")
        if modifier == "+":
            return other if value else value
        if modifier == "-":
            return value or other
        if modifier == "?":
            return self._required(name, other, empty=False)
        raise ExpansionFault(f"unsupported modifier ({modifier}) in substitution")

    def _required(self, name: str, message: str, *, empty: bool) -> str:
        value = self._values.get(name)
        if value is None:
            raise ExpansionFault(f"{name}: {message or 'is not allowed to be unset'}")
        if not value and not empty:
            raise ExpansionFault(f"{name}: {message or 'is not allowed to be empty'}")
        return value

    def _alternative(self) -> str:
        """What stands before the closing brace, expanded."""
        self._depth += 1
        if self._depth > _NESTING:
            raise ExpansionFault(f"more than {_NESTING} substitutions within each other")
        try:
            return "".join(self.until("}").parts)
        except ExpansionFault:
            if not self._peek():
                raise ExpansionFault("syntax error: missing '}'") from None
            raise
        finally:
            self._depth -= 1

    def _name(self) -> str:
        """Letters, digits and _; only digits if it begins with one; or one special character."""
        begin = self._at
        first = self._peek()
        if first in _SPECIAL:
            return self._next()
        digits = first.isdecimal()
        while (char := self._peek()) and (
            char.isdecimal() if digits else char.isalpha() or char.isdecimal() or char == "_"
        ):
            self._next()
        return self._text[begin : self._at]
