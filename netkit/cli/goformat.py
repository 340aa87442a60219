"""A parsed template over values: the text.  Pure.

Values are JSON (dict, list, str, int, float, bool, None) or a Row, whose fields are computed
when asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from netkit.cli.gofunctions import FUNCTIONS, LENIENT, Function, Missing, Row, show, truth
from netkit.cli.gotemplate import (
    Block,
    Const,
    Name,
    Node,
    Operand,
    Path,
    Pipe,
    TemplateError,
    Text,
    parse,
)

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
_WORD = re.compile("[A-Z][a-z]+")


def render(source: str, value: object, functions: Mapping[str, Function] | None = None) -> str:
    """TemplateError for a bad template, or a field that is not there."""
    return Template(source, functions).render(value)


class Template:
    def __init__(self, source: str, functions: Mapping[str, Function] | None = None) -> None:
        self.nodes = parse(source)
        self.functions = {**FUNCTIONS, **(functions or {})}

    def render(self, value: object) -> str:
        return "".join(self._run(self.nodes, value, {"$": value}))

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
                    out.append(show(_present(found, node)))
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
        elif found is None or isinstance(found, Missing):
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
        function = self.functions.get(name)
        if function is None:
            known = ", ".join(sorted(self.functions))
            raise TemplateError(f'function "{name}" not defined; there are {known}')
        if name not in LENIENT:
            args = [_present(each, None) for each in args]
        try:
            return function(*args)
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
            if isinstance(value, Missing):
                return value
            if isinstance(value, dict):
                value = _entry(value, name, users=before in USERS_MAPS)
            elif isinstance(value, Row):
                value = self._field(value, name, [])
            elif value is None:
                value = Missing(name)
            else:
                raise TemplateError(
                    f"{{{{{node.text}}}}}: can't evaluate field {name}: {show(value)} has no fields"
                )
            before = name
        return value

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
    keys = [key for key in found if _WORD.sub(_go_word, key) == name]
    return found[keys[0]] if keys else Missing(name)


def _go_word(word: re.Match[str]) -> str:
    return GO_WORDS.get(word[0], word[0])


def _present(value: object, node: Pipe | None) -> object:
    if isinstance(value, Missing):
        where = f"{{{{{node.text}}}}}: " if node else ""
        raise TemplateError(f'{where}map has no entry for key "{value.name}"')
    return value
