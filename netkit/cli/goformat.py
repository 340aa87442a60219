"""A parsed template over values: the text.  Pure.

Values are those of govalues: JSON, Go's structures made of it, or a Row, whose fields are computed
when asked for.
"""

from __future__ import annotations

from netkit.cli.gofunctions import FUNCTIONS
from netkit.cli.gotemplate import (
    Block,
    Const,
    Name,
    Path,
    Pipe,
    TemplateError,
    Text,
    parse,
)
from netkit.cli.govalues import NIL, Row, Struct, show, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence

    from netkit.cli.gofunctions import Function
    from netkit.cli.gotemplate import Node, Operand

# Objects whose keys are the user's: a key that is not there is no mistake in the template.
USERS_MAPS = frozenset({
    "Labels", "Annotations", "Options", "Sysctls", "Tmpfs", "StorageOpt", "Networks", "Ports",
    "PortBindings", "ExposedPorts", "Volumes", "DriverOpts", "Containers", "Attributes",
    "EndpointsConfig", "AuxiliaryAddresses", "Config", "Data", "Metadata",
})  # fmt: skip

# Words that Go's fields spell otherwise than the keys of the JSON that is made of them: docker's
# templates know ".ID" and ".HostConfig.NanoCPUs" where the daemon answers "Id" and "NanoCpus".
GO_WORDS = {
    "Api": "API", "Cpu": "CPU", "Cpus": "CPUs", "Dns": "DNS", "Http": "HTTP", "Https": "HTTPS",
    "Id": "ID", "Ip": "IP",
}  # fmt: skip
_WORD = "[A-Z][a-z]+"


class _NoField(Exception):
    """A path leads nowhere."""


def render(source: str, value: object, functions: Mapping[str, Function] | None = None) -> str:
    """TemplateError for a bad template, or a field that is not there."""
    return Template(source, functions).render(value)


class Template:
    def __init__(self, source: str, functions: Mapping[str, Function] | None = None) -> None:
        self.functions = {**FUNCTIONS, **(functions or {})}
        self.nodes = parse(source, self.functions)

    def render(self, value: object) -> str:
        return "".join(self._run(self.nodes, value, {"$": value}))

    def inspect(self, kind: str, found: object) -> str:
        """As docker: of Go's structure `kind`, or, where that has no such field, of the JSON."""
        from netkit.cli.gotypes import typed

        try:
            return self.render(typed(kind, found))
        except TemplateError:
            return self.render(found)

    def _run(self, nodes: tuple[Node, ...], dot: object, scope: dict[str, object]) -> list[str]:
        out: list[str] = []
        for node in nodes:
            if isinstance(node, Text):
                out.append(node.text)
            elif isinstance(node, Pipe):
                found = self._pipe(node, dot, scope)
                if node.variables:
                    scope[node.variables[0]] = found
                else:
                    out.append(show(found))
            elif node.kind == "range":
                out += self._range(node, dot, scope)
            else:
                out += self._choice(node, dot, scope)
        return out

    def _choice(self, node: Block, dot: object, scope: dict[str, object]) -> list[str]:
        found = self._pipe(node.pipe, dot, scope)
        inner = dict(scope) | {name: found for name in node.pipe.variables}
        if truth(found):
            return self._run(node.body, found if node.kind == "with" else dot, inner)
        return self._run(node.other, dot, inner)

    def _range(self, node: Block, dot: object, scope: dict[str, object]) -> list[str]:
        found = self._pipe(node.pipe, dot, scope)
        pairs: list[tuple[object, object]]
        if isinstance(found, dict):
            pairs = sorted(found.items())
        elif isinstance(found, list):
            pairs = list(enumerate(found))
        elif found is None or found is NIL:
            pairs = []
        else:
            raise TemplateError(f"range can't iterate over {show(found)}")
        names = node.pipe.variables
        out: list[str] = []
        for key, each in pairs:
            bound = (each,) if len(names) == 1 else (key, each)
            inner = {**scope, **dict(zip(names, bound, strict=False))}
            out += self._run(node.body, each, inner)
        return out if pairs else self._run(node.other, dot, dict(scope))

    def _pipe(self, node: Pipe, dot: object, scope: dict[str, object]) -> object:
        found: object = None
        for number, command in enumerate(node.commands):
            piped = (found,) if number else ()
            found = self._command(command, piped, dot, scope, node)
        return found

    def _command(
        self, command: tuple[Operand, ...], piped: tuple[object, ...], dot: object,
        scope: dict[str, object], node: Pipe,
    ) -> object:  # fmt: skip
        first, *rest = command
        args = [self._operand(each, dot, scope, node) for each in rest] + list(piped)
        if isinstance(first, Name):
            return self._call(first.name, args)
        if isinstance(first, Path) and args:
            *way, last = first.names or ("",)
            owner = self._walk(self._start(first, dot, scope), tuple(way), node)
            if isinstance(owner, Row):
                return self._field(owner, last, args)
        elif not args:
            return self._operand(first, dot, scope, node)
        raise TemplateError(f"{{{{{node.text}}}}}: only functions take arguments")

    def _call(self, name: str, args: list[object]) -> object:
        try:
            return self.functions[name](*args)
        except TemplateError:
            raise
        except (TypeError, ValueError, IndexError, AttributeError, KeyError) as error:
            raise TemplateError(f"error calling {name}: {error}") from None

    def _operand(
        self, operand: Operand, dot: object, scope: dict[str, object], node: Pipe
    ) -> object:
        if isinstance(operand, Const):
            return operand.value
        if isinstance(operand, Name):
            return self._call(operand.name, [])
        return self._walk(self._start(operand, dot, scope), operand.names, node)

    def _start(self, path: Path, dot: object, scope: dict[str, object]) -> object:
        if isinstance(path.start, Pipe):
            return self._pipe(path.start, dot, scope)
        if path.start == ".":
            return dot
        if path.start not in scope:
            raise TemplateError(f"undefined variable {path.start}")
        return scope[path.start]

    def _walk(self, value: object, names: tuple[str, ...], node: Pipe) -> object:
        before = ""
        for name in names:
            try:
                value = self._member(value, name, users=before in USERS_MAPS)
            except _NoField as error:
                raise TemplateError(f"{{{{{node.text}}}}}: {error}") from None
            before = name
        return value

    def _member(self, value: object, name: str, *, users: bool) -> object:
        if isinstance(value, dict):
            return _entry(value, name, users=users)
        if isinstance(value, Row):
            return self._field(value, name, [])
        if isinstance(value, Struct):
            try:
                return value.get(name)
            except KeyError:
                raise _NoField(f"can't evaluate field {name} in {value.kind}") from None
        if value is None or value is NIL:
            raise _NoField(f"there is nothing to have a field {name}")
        raise _NoField(f"can't evaluate field {name}: {show(value)} has no fields")

    @staticmethod
    def _field(row: Row, name: str, args: Sequence[object]) -> object:
        try:
            return row.field(name, args)
        except KeyError:
            known = ", ".join(f".{each}" for each in row.names())
            raise TemplateError(f"can't evaluate field {name}; there are {known}") from None


def _entry(found: Mapping[str, object], name: str, *, users: bool) -> object:
    """What a map has under `name`, or under the key of Go's field `name`; exactly if it is the
    user's map."""
    if name in found:
        return found[name]
    if users:
        return None
    import re

    keys = [key for key in found if re.sub(_WORD, _go_word, key) == name]
    if not keys:
        raise _NoField(f'map has no entry for key "{name}"')
    return found[keys[0]]


def _go_word(word: re.Match[str]) -> str:
    return GO_WORDS.get(word[0], word[0])
