"""Run cases on the daemon at DOCKER_HOST; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.corpus.running import Runner, cases, differences, expected, path, specification, timed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.corpus", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write what is got as expectations")
    parser.add_argument("--new", action="store_true", help="of cases that have none yet")
    parser.add_argument("--results", type=Path, help="write all results to this file, as JSON")
    parser.add_argument("--netkit", action="store_true", help="expect netkit's own differences")
    parser.add_argument("-v", action="store_true", help="show all differences of a case")
    parser.add_argument("what", nargs="*", help="areas, or beginnings of names: copy copy/01")
    options = parser.parse_args()
    runner = Runner(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    failed, results = 0, {}
    with runner.serving():
        for name in cases(options.what):
            spec = specification(name)
            if options.record and options.new and "expect" in spec:
                continue
            got, seconds = timed(runner, name)
            results[name] = got
            if options.record:
                spec["expect"] = got
                text = json.dumps(spec, indent=1, ensure_ascii=False)
                path(name).write_text(f"{text}\n")
                print(f"rec  {name} {seconds:.1f} s", flush=True)
                continue
            wanted, free = expected(name) if options.netkit else (spec.get("expect"), [])
            found = [d for d in differences(wanted, got) if not d[0].startswith(tuple(free))]
            failed += bool(found)
            print(f"{'FAIL' if found else 'ok  '} {name} {seconds:.1f} s: {spec['summary']}")
            for place, what in found[: None if options.v else 4]:
                print(f"    {place}: {what}", flush=True)
    if options.results:
        options.results.write_text(json.dumps(results))
    print(f"{len(results) - failed} of {len(results)} as recorded")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
