"""Go templates, as much as --format documents: text to a tree.  Pure.

Actions: {{pipeline}}, {{if}} {{else if}} {{else}} {{end}}, {{range}}, {{with}}, {{$x := ...}},
{{/* comments */}} and the trimming {{- -}}.  What else Go has is a TemplateError.
"""

from __future__ import annotations

from netkit.client.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Final


class TemplateError(ValueError):
    """The template is wrong, or asks for what is not there."""


class Text(Value):
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text


class Const(Value):
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Final = value


class Path(Value):
    """.A.B, $x.A or (pipeline).A: `start` is "." or a variable's name or a pipeline."""

    __slots__ = ("names", "start")

    def __init__(self, start: str | Pipe, names: tuple[str, ...]) -> None:
        self.start: Final = start
        self.names: Final = names


class Name(Value):
    """A function."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: Final = name


Operand = Const | Path | Name


class Pipe(Value):
    """Commands joined by `|`; `variables` are set to the result."""

    __slots__ = ("commands", "text", "variables")

    def __init__(
        self, commands: tuple[tuple[Operand, ...], ...], variables: tuple[str, ...] = (),
        text: str = "",
    ) -> None:  # fmt: skip
        self.commands: Final = commands
        self.variables: Final = variables
        self.text: Final = text


class Block(Value):
    """if, with or range."""

    __slots__ = ("body", "kind", "other", "pipe")

    def __init__(
        self, kind: str, pipe: Pipe, body: tuple[Node, ...], other: tuple[Node, ...]
    ) -> None:
        self.kind: Final = kind
        self.pipe: Final = pipe
        self.body: Final = body
        self.other: Final = other


Node = Text | Pipe | Block

TOKEN = r"""\s*(?:
      (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?))
    | (?P<variable>\$\w*)
    | (?P<field>\.[A-Za-z_]\w*)
    | (?P<dot>\.)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<sign>:=|=|\||\(|\)|,)
    )"""
WORDS = {"true": True, "false": False, "nil": None}
UNSUPPORTED = ("define", "template", "block", "break", "continue")


def parse(source: str, functions: Collection[str]) -> tuple[Node, ...]:
    """Parse a template that may call `functions`; TemplateError names the fault and its place."""
    parser = _Blocks(_pieces(source), functions)
    nodes, end = parser.until_end(())
    if end:
        raise TemplateError(f"unexpected {{{{{end}}}}}")
    return nodes


def _pieces(source: str) -> list[Text | str]:
    """Texts, and the insides of actions."""
    found: list[Text | str] = []
    at, trim = 0, False
    while (start := source.find("{{", at)) >= 0:
        first = start + (4 if source.startswith("- ", start + 2) else 2)
        end = source.find("}}", first)
        if end < 0:
            break
        text = source[at:start]
        text = text.lstrip() if trim else text
        if first == start + 4:
            text = text.rstrip()
        if text:
            found.append(Text(text))
        inside, at = source[first:end], end + 2
        trim = inside.endswith(" -")
        inside = inside.removesuffix(" -").strip()
        if not (inside.startswith("/*") and inside.endswith("*/")):
            found.append(inside)
    rest = source[at:]
    if "{{" in rest:
        raise TemplateError("unclosed action")
    rest = rest.lstrip() if trim else rest
    return [*found, Text(rest)] if rest else found


class _Blocks:
    def __init__(self, pieces: list[Text | str], functions: Collection[str]) -> None:
        self.pieces, self.functions = iter(pieces), functions

    def until_end(self, ends: tuple[str, ...]) -> tuple[tuple[Node, ...], str]:
        """Nodes up to one of `ends`, and the action that ended them."""
        nodes: list[Node] = []
        for piece in self.pieces:
            if isinstance(piece, Text):
                nodes.append(piece)
                continue
            word, _, rest = piece.partition(" ")
            if word in ("end", "else"):
                if not ends:
                    raise TemplateError(f"unexpected {{{{{piece}}}}}")
                return tuple(nodes), piece
            if word in UNSUPPORTED:
                raise TemplateError(f"{{{{{word}}}}} is not supported")
            if word in ("if", "with", "range"):
                nodes.append(self._block(word, rest))
            else:
                nodes.append(pipe(piece, self.functions))
        if ends:
            raise TemplateError("unexpected EOF: {{end}} is missing")
        return tuple(nodes), ""

    def _block(self, kind: str, condition: str) -> Block:
        given = pipe(condition, self.functions)
        body, end = self.until_end(("else", "end"))
        if end == "end":
            return Block(kind, given, body, ())
        again = end.removeprefix("else").strip()
        word, _, rest = again.partition(" ")
        if word in ("if", "with"):
            return Block(kind, given, body, (self._block(word, rest),))
        other, end = self.until_end(("end",))
        if again or end != "end":
            raise TemplateError(f"unexpected {{{{{again or end}}}}}")
        return Block(kind, given, body, other)


def pipe(source: str, functions: Collection[str]) -> Pipe:
    dot, _, name = source.partition(".")
    if not dot and name.isascii() and name.isidentifier():  # {{.Name}}, as all tables have it
        return Pipe(((Path(".", (name,)),),), (), source)
    tokens = list(_tokens(source))
    reader = _Pipes(tokens, source.strip(), functions)
    found = reader.pipe()
    if reader.at != len(tokens):
        raise TemplateError(f"unexpected {tokens[reader.at][1]!r} in {{{{{source}}}}}")
    return found


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    import re

    token = re.compile(TOKEN, re.VERBOSE)  # 6 ms, which tables do not need
    at, source = 0, source.rstrip()
    while at < len(source):
        match = token.match(source, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"unexpected {source[at:].strip()[:10]!r} in {{{{{source}}}}}")
        at = match.end()
        # A dot that follows a parenthesis or a variable goes on with it, one after a space not.
        spaced = match.start(match.lastgroup) > match.start()
        kind = match.lastgroup
        yield ("next" if kind == "field" and not spaced else kind), match[kind]


class _Pipes:
    def __init__(
        self, tokens: list[tuple[str, str]], text: str, functions: Collection[str]
    ) -> None:
        self.tokens, self.text, self.at, self.functions = tokens, text, 0, functions

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def pipe(self) -> Pipe:
        variables = self._variables()
        commands = [self._command()]
        while self.peek() == ("sign", "|"):
            self.at += 1
            commands.append(self._command())
        return Pipe(tuple(commands), variables, self.text)

    def _variables(self) -> tuple[str, ...]:
        names: list[str] = []
        ahead = 0
        while self.peek(ahead)[0] == "variable":
            names.append(self.peek(ahead)[1])
            after = self.peek(ahead + 1)
            if after in (("sign", ":="), ("sign", "=")):
                self.at += ahead + 2
                return tuple(names)
            if after != ("sign", ","):
                break
            ahead += 2
        return ()

    def _command(self) -> tuple[Operand, ...]:
        found: list[Operand] = []
        while (operand := self._operand()) is not None:
            found.append(operand)
        if not found:
            raise TemplateError(f"missing value in {{{{{self.text}}}}}")
        return tuple(found)

    def _operand(self) -> Operand | None:
        kind, text = self.peek()
        if kind in ("end", "sign") and text != "(":
            return None
        self.at += 1
        if text == "(":
            inner = self.pipe()
            if self.peek() != ("sign", ")"):
                raise TemplateError(f"unclosed parenthesis in {{{{{self.text}}}}}")
            self.at += 1
            return Path(inner, self._names())
        match kind:
            case "string":
                return Const(_unquoted(text))
            case "number":
                return Const(float(text) if "." in text else int(text, 0))
            case "variable":
                return Path(text, self._names())
            case "field" | "next":
                return Path(".", (text[1:], *self._names()))
            case "dot":
                return Path(".", ())
        if text in WORDS:
            return Const(WORDS[text])
        if text not in self.functions:
            known = ", ".join(sorted(self.functions))
            raise TemplateError(f'function "{text}" not defined; there are {known}')
        return Name(text)

    def _names(self) -> tuple[str, ...]:
        names = []
        while self.peek()[0] == "next":
            names.append(self.peek()[1][1:])
            self.at += 1
        return tuple(names)


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    import json

    try:
        return str(json.loads(text))
    except ValueError:
        raise TemplateError(f"invalid string {text}") from None
