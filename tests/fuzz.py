"""Fuzzing of one parser of the wire, guided by coverage: atheris (libFuzzer), if installed.

    python -m tests.fuzz datagram -max_total_time=60

Not part of any stage: hypothesis does the same without guidance (tests/unit/plugins/weave).
"""

from __future__ import annotations

import importlib
import sys

from tests.unit.plugins.weave.parsers import PARSERS


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in PARSERS:
        print(f"usage: python -m tests.fuzz {{{','.join(PARSERS)}}} [options of libFuzzer]")
        return 2
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        print("atheris is not installed: pip install atheris (Linux on x86, Python up to 3.13)")
        return 1
    parser = PARSERS[sys.argv.pop(1)]
    atheris.instrument_all()
    for seed in parser.seeds:
        assert parser.check(seed)
    atheris.Setup(sys.argv, lambda data: (parser.check(data), None)[1])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
