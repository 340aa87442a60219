"""Names and numbers of signals as Docker accepts them: KILL, SIGKILL, kill, 9, RTMIN+3."""

from __future__ import annotations

import re
import signal

from netkit.errors import InvalidSpec


def number(text: str) -> int:
    """The signal's number on this host; InvalidSpec "invalid signal: x"."""
    word = text.strip().upper().removeprefix("SIG")
    if word.isdigit():
        value = int(word)
        if not 0 < value <= signal.SIGRTMAX:
            raise InvalidSpec(f"invalid signal: {text}")
        return value
    if match := re.fullmatch(r"RT(MIN|MAX)([+-]\d+)?", word):
        base = signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX
        value = base + int(match[2] or 0)
        if signal.SIGRTMIN <= value <= signal.SIGRTMAX:
            return int(value)
        raise InvalidSpec(f"invalid signal: {text}")
    try:
        return int(signal.Signals[f"SIG{word}"])
    except KeyError:
        raise InvalidSpec(f"invalid signal: {text}") from None
