"""Apply instructions of `commit --change` and `import --change` to an image's configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netkit.errors import InvalidSpec
from runtime.dockerfile import effects
from runtime.dockerfile.checking import instruction
from runtime.dockerfile.errors import InstructionFault
from runtime.dockerfile.parser import parse

_ALLOWED = frozenset({
    "cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "user", "volume",
    "workdir",
})  # fmt: skip


def apply(config: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The `config` object of an image, changed.  InvalidSpec names the bad instruction."""
    state = effects.StageState(dict(config))
    lines = list(changes)
    if not lines:
        return state.config
    file = parse("\n".join(lines).encode("utf-8", "replace"))
    state.escape = file.escape
    for node in file.nodes:
        if node.keyword not in _ALLOWED:
            raise InvalidSpec(f"{node.keyword[:200]} is not a valid change command")
    for node in file.nodes:
        try:
            found = instruction(node)
        except InstructionFault as fault:
            raise InvalidSpec(fault.reason) from None
        effects.apply(state, effects.expanded(found, state.variables(), state.escape))
    return state.config
