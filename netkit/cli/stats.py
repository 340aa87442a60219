"""stats: a table that is drawn anew, or once."""

from __future__ import annotations

import sys
import threading
import time

from netkit.cli import human, table
from netkit.cli.commands import Count, command
from netkit.cli.flags import Options, switch, text
from netkit.cli.ps import FORMAT_HELP
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netkit.cli.session import Session
    from netkit.client.engine import Json

TABLE = (
    "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}"
    "\t{{.BlockIO}}\t{{.PIDs}}"
)
HEADERS = {
    "Container": "CONTAINER", "Name": "NAME", "ID": "CONTAINER ID", "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %", "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
NOTHING = "--"
DRAW_SECONDS = 0.5
FIRST_SECONDS = 10.0  # a daemon takes one to two seconds for the first numbers
HOME, CLEAR_LINE, CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"


@command(
    "[OPTIONS] [CONTAINER...]", Count(0, None),
    switch("all", "Show all containers (default shows just running)", short="a"),
    text("format", FORMAT_HELP),
    switch("no-stream", "Disable streaming stats and only pull the first result"),
    switch("no-trunc", "Do not truncate output"),
)  # fmt: skip
def stats(session: Session, options: Options) -> None:
    source = table_format_of(options)
    board = Board(session, stream=not options.flag("no-stream"))
    named = list(options.args)
    for name in named or _running(session, options.flag("all")):
        board.follow(name)
    board.wait_first(FIRST_SECONDS)
    if named and board.errors:
        raise Failure("; ".join(str(error) for error in board.errors.values()))
    trunc = not options.flag("no-trunc")
    if options.flag("no-stream"):
        table.write([row(n, board.last.get(n), trunc) for n in board.names], source, HEADERS)
        return
    while True:
        if not named:
            board.adopt(_running(session, options.flag("all")))
        rows = [row(n, board.last.get(n), trunc) for n in board.names]
        _draw(table.listing(rows, source, HEADERS))
        if named and not board.alive():
            return
        time.sleep(DRAW_SECONDS)


def table_format_of(options: Options) -> str:
    given = options.text("format")
    return TABLE if given in ("", "table") else given


def _running(session: Session, every: bool) -> list[str]:
    return [each["Id"] for each in session.engine.get("/containers/json", {"all": every})]


def _draw(text: str) -> None:
    lines = "".join(f"{line}{CLEAR_LINE}\n" for line in text.split("\n"))
    sys.stdout.write(f"{HOME}{lines}{CLEAR_REST}" if sys.stdout.isatty() else text)
    sys.stdout.flush()


class Board:
    """The last numbers of each container; one thread reads the stream of each."""

    def __init__(self, session: Session, *, stream: bool) -> None:
        self.engine, self.stream = session.engine, stream
        self.names: list[str] = []
        self.last: dict[str, Json] = {}
        self.errors: dict[str, Failure] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._first: dict[str, threading.Event] = {}

    def follow(self, name: str) -> None:
        self.names.append(name)
        self._first[name] = threading.Event()
        thread = threading.Thread(target=self._read, args=(name,), daemon=True)
        self._threads[name] = thread
        thread.start()

    def adopt(self, names: list[str]) -> None:
        """Follow exactly these from now on."""
        self.names = [name for name in self.names if name in names]
        for name in names:
            if name not in self.names:
                self.follow(name)

    def wait_first(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for event in list(self._first.values()):
            event.wait(max(0.0, deadline - time.monotonic()))

    def alive(self) -> bool:
        return any(self._threads[name].is_alive() for name in self.names)

    def _read(self, name: str) -> None:
        try:
            query = {"stream": "1" if self.stream else "0"}
            answer = self.engine.stream("GET", f"/containers/{name}/stats", query)
            for sample in self.engine.objects(answer):
                self.last[name] = sample
                self._first[name].set()
        except Failure as failure:
            self.errors[name] = failure
        except OSError as error:
            self.errors[name] = Failure(str(error))
        finally:
            self._first[name].set()


def row(container: str, sample: Json | None, trunc: bool) -> table.Line:
    full = str((sample or {}).get("id") or container)
    name = str((sample or {}).get("name") or "").removeprefix("/") or NOTHING

    def of(render: Callable[[Json], str], nothing: str = NOTHING) -> Callable[[], object]:
        return lambda: render(sample) if sample else nothing

    fields: dict[str, Callable[[], object]] = {
        "Container": lambda: container,
        "Name": lambda: name,
        "ID": lambda: human.short_id(full) if trunc else full,
        "CPUPerc": of(lambda s: human.percent(cpu_percent(s))),
        "MemUsage": of(
            lambda s: f"{human.binary_size(memory(s))} / {human.binary_size(_limit(s))}",
            f"{NOTHING} / {NOTHING}",
        ),
        "MemPerc": of(lambda s: human.percent(memory(s) / _limit(s) * 100 if _limit(s) else 0)),
        "NetIO": of(lambda s: _two(_network(s, "rx_bytes"), _network(s, "tx_bytes"))),
        "BlockIO": of(lambda s: _two(_block(s, "r"), _block(s, "w"))),
        "PIDs": of(lambda s: str((s.get("pids_stats") or {}).get("current", 0))),
    }
    return table.line(fields)


def _two(left: float, right: float) -> str:
    return f"{human.size(left)} / {human.size(right)}"


def cpu_percent(sample: Json) -> float:
    """Of one CPU, between this sample and the one before."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _usage(now) - _usage(before)
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len(now.get("cpu_usage", {}).get("percpu_usage") or ())
    return float(used / system * cpus * 100) if system > 0 and used > 0 else 0.0


def _usage(cpu: Json) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage", 0))


def memory(sample: Json) -> float:
    """In use, without the file cache that can be dropped."""
    stats_ = sample.get("memory_stats") or {}
    usage = stats_.get("usage", 0)
    details = stats_.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return float(usage - cache if cache < usage else usage)


def _limit(sample: Json) -> float:
    return float((sample.get("memory_stats") or {}).get("limit", 0))


def _network(sample: Json, key: str) -> float:
    return float(sum(each.get(key, 0) for each in (sample.get("networks") or {}).values()))


def _block(sample: Json, letter: str) -> float:
    entries = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return float(sum(e["value"] for e in entries if e.get("op", "")[:1].lower() == letter))
