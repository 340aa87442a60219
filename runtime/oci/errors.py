"""Translate errors of the OCI runtime into those that clients map to exit codes.  Pure.

The stock client turns "executable file not found" and "no such file or directory" into exit
status 127, "permission denied" and "is a directory" into 126, all else into 125.
"""

from __future__ import annotations

import json
import re

from netkit.errors import NetkitError


class StartFailed(NetkitError):
    """The OCI runtime failed."""

    status = 500
    exit_code = 128


class BadCommand(StartFailed):
    """The command of the user cannot be run: not found (127) or not executable (126)."""

    status = 400

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def runtime_error(verb: str, said: str) -> StartFailed:
    """The error for the runtime's output `said` when `verb` failed."""
    reason = _reason(said)
    low = reason.lower()
    prefix = "failed to create task for container: " if verb == "create" else ""
    message = f"{prefix}OCI runtime {verb} failed: {reason}: unknown"
    if "exec:" in low or verb == "exec":
        if "executable file not found" in low or "no such file or directory" in low:
            return BadCommand(message, 127)
        if "permission denied" in low or "is a directory" in low:
            return BadCommand(message, 126)
    return StartFailed(message)


def _reason(said: str) -> str:
    """The message of the last error in a runtime's log, plain or JSON."""
    best = ""
    for line in said.splitlines():
        text = line.strip()
        if text.startswith("{"):
            try:
                record = json.loads(text)
                text = record.get("msg", text)
                if record.get("level") not in {"error", "fatal"}:
                    continue
            except json.JSONDecodeError:
                pass
        elif match := re.match(r'time="[^"]*" level=(\w+) msg="(.*)"$', text):
            if match[1] not in {"error", "fatal"}:
                continue
            text = match[2].replace('\\"', '"')
        if text:
            best = text
    return best.strip() or said.strip() or "no reason given"
