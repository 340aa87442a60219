"""The `netkit` command: docker's grammar, an HTTP client of the daemon."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process, and exit."""
    _main("netkit")


def weave_main() -> NoReturn:
    """Run the command line of this process as `netkit weave`, under its own name, and exit."""
    _main("weave")


def _main(program: str) -> NoReturn:
    import gc
    import sys

    # Imports make some ten thousand objects that stay: to look for cycles in them takes 1 ms.
    gc.set_threshold(50_000, *gc.get_threshold()[1:])
    from netkit.cli.app import run

    _leave(run(sys.argv[1:], program))


def _leave(code: int) -> NoReturn:
    """End the process; without taking the interpreter apart, which takes 2 ms, where that is safe.

    It is where neither a thread can run nor a function be registered for the end, because the
    modules that do so were never imported.
    """
    import os
    import sys

    if "threading" in sys.modules or "atexit" in sys.modules:
        sys.exit(code)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # closed: the interpreter's own end reports it
        raise SystemExit(code) from None
    os._exit(code)
