"""What is known of the user's terminal; `rawterminal` changes it."""

from __future__ import annotations

import os

from netkit.client.failure import Failure

STDIN, STDOUT, STDERR = 0, 1, 2
CTRL = frozenset("abcdefghijklmnopqrstuvwxyz@[\\]^_")


def size(fd: int = STDOUT) -> tuple[int, int] | None:
    """Rows and columns; None when `fd` is no terminal."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def detach_keys(text: str) -> str:
    """ "ctrl-p,ctrl-q": as given.  Failure for what no daemon understands."""
    for key in text.split(",") if text else ():
        if len(key) == 1 or (key.startswith("ctrl-") and key[5:] in CTRL and len(key) == 6):
            continue
        raise Failure(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return text


def require_terminal(stdin: bool, tty: bool) -> None:
    """Failure when a program on a terminal is to read from something that is none."""
    if stdin and tty and not os.isatty(STDIN):
        raise Failure("the input device is not a TTY")
