"""Draw where netkitd spends its time while a row of the benchmarks runs:

    python -m bench.flame 'network connect$' flame.svg

The samples are py-spy's where it is installed (Python's functions, of the daemon's threads that do
not wait), and else perf's (of the daemon, what it starts and the kernel; with Python's functions
from Python 3.12 on, which exports their names to perf).  The file is a self-contained SVG: one box
for each function on its caller's, as wide as its share; point at one to read its name.  The modules
of the daemon's with the largest shares are printed.  Needs root.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from bench import crowds
from bench.measures import QUICK, measures
from bench.peers import start

WIDTH, HEIGHT, LETTER = 1600, 17, 7  # of the picture, a box and a letter, in pixels
THINNEST = 0.3  # pixels; thinner boxes are left out
RATE = 500  # samples a second
SCALE = replace(QUICK, repeats=25, parallel=(50,))
LASTING = 10.0  # seconds for which rows are repeated
SHOWN = 8  # modules
# Python's functions in which a thread waits: py-spy cannot tell on every kernel.
WAITS = frozenset(
    {"_poll", "_wait_for_tstate_lock", "_worker", "block", "poll", "readable", "select", "wait"}
)
# In a stack of py-spy's: a function, its module and line.
OURS = re.compile(r"[^;]*\(((?:netkit|runtime|plugins)/[^:;]+):\d+\)")
# Address, name (in C++ with blanks and brackets), offset, and file, which may be deleted or none.
FUNCTION = re.compile(r"\s+[0-9a-f]+ (.+?)(?:\+0x[0-9a-f]+)? \([^()]*(?: \(deleted\))?\)\s*")


@dataclass(slots=True)
class Frame:
    """A function on its caller; `count` is its samples, those of what it calls included."""

    name: str
    count: int = 0
    calls: dict[str, Frame] = field(default_factory=dict)


def tree(folded: Iterable[str]) -> Frame:
    """Of lines `outermost;...;innermost COUNT`, as stackcollapse and py-spy write them."""
    root = Frame("all")
    for line in folded:
        stack, _, number = line.rpartition(" ")
        if not number.isdigit():
            continue
        root.count += int(number)
        at = root
        for name in stack.split(";"):
            at = at.calls.setdefault(name, Frame(name))
            at.count += int(number)
    return root


def working(folded: Iterable[str]) -> list[str]:
    """Of py-spy's lines those of threads that did not wait."""
    return [line for line in folded if not WAITS & {_innermost(line)}]


def _innermost(line: str) -> str:
    """`wait` of `...;Condition.wait (threading.py:327) COUNT`."""
    frame = line.rpartition(" ")[0].rpartition(";")[2]
    return frame.partition(" (")[0].rpartition(".")[2]


def by_module(folded: Iterable[str]) -> list[tuple[str, float]]:
    """Shares of netkit's modules, largest first; what they call of others is theirs."""
    found: Counter[str] = Counter()
    for line in folded:
        stack, _, number = line.rpartition(" ")
        inside = OURS.findall(stack)
        found[inside[-1] if inside else "(none of netkit's)"] += int(number)
    total = max(1, found.total())
    return [(name, count / total) for name, count in found.most_common()]


def collapse(script: str) -> list[str]:
    """Fold what `perf script` writes: each sample's head, then its functions, innermost first."""
    found: Counter[str] = Counter()
    for block in script.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        names = [m[1] for line in lines if (m := FUNCTION.fullmatch(line))]
        if names:
            found[";".join([head.split()[0], *reversed(names)]).replace(" ", "_")] += 1
    return [f"{stack} {count}" for stack, count in found.items()]


def svg(root: Frame) -> str:
    boxes = list(_boxes(root, 0.0, 0))
    high = (max((depth for *_, depth in boxes), default=0) + 1) * HEIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {high}" '
           'font-family="monospace" font-size="11">']  # fmt: skip
    for frame, left, width, depth in boxes:
        top = high - (depth + 1) * HEIGHT
        share = f"{frame.name}: {frame.count} samples, {frame.count / root.count:.1%}"
        shade = sum(map(ord, frame.name)) % 60
        shown = escape(frame.name[: max(0, int(width / LETTER) - 1)])
        out.append(
            f"<g><title>{escape(share)}</title>"
            f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT - 1}" '
            f'fill="rgb(240,{130 + shade},60)"/>'
            f'<text x="{left + 2:.1f}" y="{top + 12}">{shown}</text></g>'
        )
    return "\n".join([*out, "</svg>\n"])


def _boxes(frame: Frame, left: float, depth: int) -> Iterator[tuple[Frame, float, float, int]]:
    pending = [(frame, left, depth)]
    scale = WIDTH / max(1, frame.count)
    while pending:
        at, x, level = pending.pop()
        width = at.count * scale
        if width < THINNEST:
            continue
        yield at, x, width, level
        for call in sorted(at.calls.values(), key=lambda c: c.name):
            pending.append((call, x, level + 1))
            x += call.count * scale


@contextmanager
def recorded(pid: int, folded: list[str]) -> Iterator[None]:
    """Sample a process until the end, then add its stacks to `folded`."""
    with tempfile.TemporaryDirectory(prefix="nk-flame-") as folder:
        data = Path(folder) / "data"
        spy = shutil.which("py-spy")
        argv = (
            [spy, "record", "--nonblocking", "-p", str(pid), "-f", "raw", "-o", str(data),
             "-r", str(RATE)]
            if spy
            else ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(RATE), "-g", "-p", str(pid),
                  "-o", str(data)]
        )  # fmt: skip
        sampler = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            sampler.send_signal(signal.SIGINT)
            sampler.wait(60)
        if spy:
            folded += working(data.read_text().splitlines())
        else:
            shown = subprocess.run(["perf", "script", "-i", str(data), "-F", "comm,ip,sym,dso"],
                                   capture_output=True, text=True, check=True)  # fmt: skip
            folded += collapse(shown.stdout)


def main() -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="bench.flame", description=__doc__, formatter_class=plain)
    parser.add_argument("row", help="a regular expression on names of `python -m bench`'s rows")
    parser.add_argument("file", type=Path, help="the SVG to write")
    options = parser.parse_args()
    every = [*measures(SCALE), *crowds.measures(SCALE)]
    rows = [m for m in every if re.search(options.row, m.name)]
    if not rows or os.geteuid() != 0:
        print(
            "flame: needs root" if rows else f"flame: no row matches {options.row}", file=sys.stderr
        )
        return 1
    if not (shutil.which("py-spy") or shutil.which("perf")):
        print("flame: needs py-spy (pip install py-spy) or perf (apt-get install linux-perf)",
              file=sys.stderr)  # fmt: skip
        return 1
    os.environ["PYTHONPERFSUPPORT"] = "1"  # for perf, from Python 3.12 on; no effect before
    folded: list[str] = []
    with start("netkit") as peer:
        assert peer.engine is not None
        with recorded(peer.engine.pid, folded):
            end = time.monotonic() + LASTING
            while time.monotonic() < end:
                for row in rows:
                    print(f"flame: {row.name}", flush=True)
                    row.sample(peer, SCALE)
    root = tree(folded)
    options.file.write_text(svg(root))
    print(f"flame: {root.count} samples, {options.file}")
    for name, share in by_module(folded)[:SHOWN]:
        print(f"{share:6.1%}  {name}")
    return 0 if root.count else 1


if __name__ == "__main__":
    sys.exit(main())
