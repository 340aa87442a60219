"""Parse signals as Docker accepts them: KILL, SIGKILL, kill, 9, RTMIN+3."""

from __future__ import annotations

import re
import signal

from netkit.errors import InvalidSpec
from runtime.numbers import natural

_PLUS, _MINUS = 15, -14  # RTMIN+15 is the last with such a name, RTMAX-14 the first


def parse_signal(text: str) -> int:
    """The signal's number on this host; InvalidSpec "invalid signal: x"."""
    word = text.strip().upper()
    if word.isdecimal():
        value = natural(word, signal.SIGRTMAX)
        if not value:
            raise InvalidSpec(f"invalid signal: {text[:60]}")
        return value
    word = word.removeprefix("SIG")
    if match := re.fullmatch(r"RTMIN(\+\d{1,2})?|RTMAX(-\d{1,2})?", word):
        plus, minus = int(match[1] or 0), int(match[2] or 0)
        if plus <= _PLUS and minus >= _MINUS:
            return (signal.SIGRTMIN if word.startswith("RTMIN") else signal.SIGRTMAX) + plus + minus
        raise InvalidSpec(f"invalid signal: {text}")
    try:
        return int(signal.Signals[f"SIG{word}"])
    except KeyError:
        raise InvalidSpec(f"invalid signal: {text}") from None
