"""${NAME:-default} in files of other tools, without the environment of who imports.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from netkit.lab.document import MAX_BYTES, LabFile

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<how>:?[-=?+])(?P<word>[^${}]*))?\}"
                       r"|\$(?P<bare>[A-Za-z_]\w*)", re.ASCII)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

Report = Callable[[str], None]


class Variables:
    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._left = MAX_BYTES  # characters that may be put in: a short text can ask for any number

    def replaced(self, text: str, report: Report) -> str:
        """As compose does it; `report` gets each variable that has no value.  `$$` is `$`."""

        def value(found: re.Match[str]) -> str:
            out = "$" if found[0] == "$$" else self._value(found, report)
            self._left -= len(out)
            if self._left < 0:
                raise LabFile(f"values of variables have more than {MAX_BYTES >> 20} MiB")
            return out

        return _VARIABLE.sub(value, text) if "$" in text else text

    def _value(self, found: re.Match[str], report: Report) -> str:
        name = found["name"] or found["bare"]
        how, word = found["how"] or "", found["word"] or ""
        given = self._known.get(name)
        if how.endswith("+"):
            return word if given or (given is not None and how == "+") else ""
        if given or (given is not None and not how.startswith(":")):
            return given
        if not how or how.endswith("?"):
            report(f"the variable {name} has no value here: it is empty")
            return ""
        return word


def with_defaults(text: str, report: Report) -> str:
    """Those with a default alone, as containerlab does before it reads the file."""

    def value(found: re.Match[str]) -> str:
        if found["name"] and (found["how"] or "")[-1:] in {"-", "="}:
            report(f"the variable {found['name']} is {found['word']!r} here, its default")
            return str(found["word"])
        return found[0]

    return _VARIABLE.sub(value, text)


def of_file(text: str) -> dict[str, str]:
    """NAME=VALUE lines of a .env file."""
    out = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        name, value = name.strip().removeprefix("export ").strip(), value.strip()
        if equals and _NAME.fullmatch(name):
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            out[name] = value
    return out
