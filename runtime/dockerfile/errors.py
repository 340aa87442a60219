"""Errors of Dockerfiles."""

from __future__ import annotations

from netkit.errors import InvalidSpec


class SyntaxFault(InvalidSpec):
    """A file that is no Dockerfile: the builder adds "failed to parse Dockerfile"."""


class InstructionFault(InvalidSpec):
    """An instruction that cannot be; `line` is where it begins, `reason` without it."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"dockerfile parse error line {line}: {reason}")
        self.reason = reason


class ExpansionFault(InvalidSpec):
    """A word with quotes that do not close, or a bad ${...}."""
