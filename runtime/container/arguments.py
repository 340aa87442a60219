"""Check arguments and environment against the limits of execve(2).  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from netkit.errors import InvalidSpec
from runtime import limits


def check_arguments(what: str, words: Iterable[str]) -> None:
    """InvalidSpec for a string that exceeds "Limits on size of arguments" in execve(2)."""
    for word in words:
        size = len(word.encode())
        if size > limits.ARGUMENT_BYTES:
            raise InvalidSpec(
                f"{what} {word[:40]!r}... has {size} bytes: the kernel takes at most "
                f"{limits.ARGUMENT_BYTES}"
            )
