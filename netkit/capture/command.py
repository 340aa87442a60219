"""netkit capture: packets of several points, as lines or as a pcapng file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, BinaryIO

from netkit.cli import values
from netkit.cli.commands import at_least, command, complain
from netkit.cli.flags import Options, switch, text, value
from netkit.cli.human import printable
from netkit.cli.session import Session
from netkit.client.failure import Failure, Misuse

if TYPE_CHECKING:
    from netkit.capture.marks import Marks
    from netkit.capture.points import Point
    from netkit.capture.recording import Recording, Sink, Source
    from netkit.lab.model import Lab, Places

BAD_FILTER = 2
MOST_POINTS = 64
LARGEST = 1 << 18  # bytes of a packet: netkit.kernel.packet_socket, which --help does not import
DEFAULT_SIZE = 1 << 30


def _snaplen(text: str) -> int:
    number = values.unsigned(LARGEST)(text)
    if number < 64:
        raise ValueError("headers have 64 bytes at least")
    return number


def _count(text: str) -> int:
    number = values.unsigned(1 << 62)(text)
    if not number:
        raise ValueError("a number from 1 on")
    return number


def _duration(text: str) -> int:
    nanoseconds = values.duration(text)
    if nanoseconds <= 0:
        raise ValueError("a time, as 5s, 500ms or 1m30s")
    return nanoseconds


@command(
    "[OPTIONS] POINT... [FILTER]",
    at_least(1),
    text("lab", "Points are of this lab: its folder, or its name if it is up"),
    text("name", "Name of the lab; that of its folder by default"),
    text("write", "Write a pcapng file; - is standard output, for wireshark -k -i -", short="w"),
    value("count", "int", _count, "End after so many packets", short="c"),
    value("duration", "duration", _duration, "End after this time: 5s, 1m30s"),
    value("snaplen", "int", _snaplen, "Bytes that are kept of each packet", short="s",
          default=LARGEST),
    value("max-size", "bytes", values.size, "End before the file is larger; 0: without bound. 1g "
          "by default, of a file", default=None),
    text("while", "Run this shell command once all points listen, and end with it: its exit code"),
    switch("trace", "Comment packets that begin a flow with what net trace finds"),
    switch("no-promiscuous-mode", "Only what the interface takes by itself", short="p"),
    more="""POINT:
  CONTAINER[:NETWORK]   all interfaces of a container, or that of one network
  CONTAINER@INTERFACE   one interface
  host@INTERFACE        of the engine's host; INTERFACE alone, if no container has that name
Of a lab (--lab):
  HOST@INTERFACE        any interface of a host, also HOST/INTERFACE
  SEGMENT, HOST-HOST, HOST   a link, as of lab impair: its ends at the hosts
  CONTAINER...          as above
FILTER is an expression of pcap-filter(7), which the kernel applies: tcp port 80.  It begins with
the first word that is one of its keywords, or has a blank in it.  An engine of this machine is
needed, and root.  Without -w each packet is a line; that needs scapy.""",
)  # fmt: skip
def capture(session: Session, options: Options) -> int:
    """Exit code 2: the filter is wrong."""
    from netkit.capture.recording import Recording
    from netkit.capture.words import parted

    words, filter = parted(options.args)
    with _failures(), ExitStack() as stack:
        points = _points(session, options, words)
        sources = stack.enter_context(_listening(points, filter, options))
        sink = stack.enter_context(_sink(options))
        marks = (
            stack.enter_context(_marks(session, options, points)) if options.flag("trace") else None
        )
        recording = Recording(
            sources, sink, complain,
            most=options.number("count") or None,
            seconds=options.number("duration") / 1e9 if "duration" in options.given else None,
            comment=marks.comments if marks else None,
        )  # fmt: skip
        complain(f"capturing at {', '.join(s.point.name for s in sources)}")
        with _stopping(options.text("while")) as ending:
            recording.run(ending.due)
        if sink.full:
            complain(f"{options.text('write')} has reached its --max-size")
        if marks and marks.untraced:
            complain(f"{marks.untraced} packets begin flows that were not traced, being too many")
        complain(_total(recording, sources))
        return ending.code


def _total(recording: Recording, sources: list[Source]) -> str:
    count = f"{recording.written} packet" + ("" if recording.written == 1 else "s")
    lost = [f"{s.packets.dropped} at {s.point.name}" for s in sources if s.packets.dropped]
    return f"{count} captured, {recording.dropped} dropped by the kernel" + (
        f" ({', '.join(lost)}): give a FILTER, or -w" if lost else ""
    )


# where


def _points(session: Session, options: Options, words: tuple[str, ...]) -> list[Point]:
    from netkit.capture.points import of_engine
    from netkit.capture.words import spot

    try:
        spots = [spot(each) for each in words]
    except ValueError as error:
        raise Failure(str(error)) from None
    if options.text("lab"):
        from netkit.capture.labs import of_lab

        lab, places = _lab(options)
        found = [point for each in spots for point in of_lab(lab, places, each)]
    else:
        found = [point for each in spots for point in of_engine(session.engine, each)]
    points = list({(p.ns, p.interface): p for p in found}.values())
    if len(points) > MOST_POINTS:
        raise Failure(f"{len(points)} points: at most {MOST_POINTS} are captured together")
    return points


def _lab(options: Options) -> tuple[Lab, Places]:
    """One that is up: by its folder, or its name."""
    from netkit.lab.command import _running

    return _running(Options({"name": options.text("name")}, (options.text("lab"),)))


# where to


@contextmanager
def _sink(options: Options) -> Iterator[Sink]:
    from netkit.capture.sinks import Lines, Pcapng

    path = options.text("write")
    if not path:
        if "max-size" in options.given:
            raise Misuse("--max-size bounds the file of -w FILE: give one")
        yield Lines(_print, _summary())
        return
    most = options.number("max-size") if "max-size" in options.given else DEFAULT_SIZE
    bound = most or None
    if path == "-" and "max-size" not in options.given:
        bound = None
    with _opened(path) as file:
        yield Pcapng(file, options.number("snaplen"), bound)


def _print(text: str) -> None:
    print(printable(text, keep="\n"), end="", flush=True)


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Writes are whole, and not kept back."""
    if path == "-":
        if sys.stdout.isatty():
            raise Failure("standard output is a terminal: pipe it, as | wireshark -k -i -")
        yield sys.stdout.buffer
        return
    try:
        with open(path, "wb") as file:
            yield file
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        raise Failure(f"cannot write {path}: {error.strerror}") from error


def _summary() -> Callable[[bytes, bool], str]:
    try:
        from netkit.testing.packets import summary
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("scapy"):
            raise
        raise Failure(
            "lines of packets need scapy: pip install scapy; or write the packets with -w FILE"
        ) from None
    return summary


# when, and what with it


@contextmanager
def _marks(session: Session, options: Options, points: list[Point]) -> Iterator[Marks]:
    from netkit.capture.marks import Marks

    if options.text("lab"):
        from netkit.capture.labs import tracing

        lab, places = _lab(options)
        yield Marks(tracing(lab, places), [p.host for p in points])
        return
    from netkit.cli.trace import _engines
    from netkit.diagnose.trace.join import question, trace

    engines = _engines(session, Options({"via": ()}))
    yield Marks(
        lambda flow, _: trace(engines, question(flow.source, flow.target, flow.service)),
        [p.host for p in points],
    )


class _Ending:
    """SIGINT or SIGTERM came, or the command of --while has ended with `code`."""

    def __init__(self, command: str) -> None:
        self.came = False
        self.code = 0
        self._begun = not command
        self._command = command
        self._running: subprocess.Popen[bytes] | None = None

    def note(self, number: int, _: object) -> None:
        if self.came:  # a second one ends at once, also where a reader takes nothing
            raise KeyboardInterrupt
        self.came = True

    def due(self) -> bool:
        if not self._begun:
            self._begun = True
            # Its output must not be mixed with that of -w -; what it starts ends with it.
            self._running = subprocess.Popen(
                ["sh", "-c", self._command], stdin=subprocess.DEVNULL, stdout=sys.stderr,
                process_group=0,
            )  # fmt: skip
        if self._running is not None and (code := self._running.poll()) is not None:
            self.code = code if code >= 0 else 128 - code
            return True
        return self.came

    def close(self) -> None:
        """The capture may be over first: then the command is ended."""
        if self._running is not None and self._running.poll() is None:
            os.killpg(self._running.pid, signal.SIGTERM)
            self._running.wait()


@contextmanager
def _stopping(command: str) -> Iterator[_Ending]:
    """What waits when it is due is still written."""
    ending = _Ending(command)
    before = {each: signal.signal(each, ending.note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ending
    finally:
        ending.close()
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _listening(points: list[Point], filter: str, options: Options) -> Iterator[list[Source]]:
    from netkit.capture.recording import listening
    from netkit.errors import InvalidSpec

    promiscuous = not options.flag("no-promiscuous-mode")
    with ExitStack() as stack:
        try:
            opened = listening(points, filter, options.number("snaplen"), promiscuous)
            sources = stack.enter_context(opened)
        except InvalidSpec as error:
            raise Failure(str(error), BAD_FILTER) from None
        yield sources


@contextmanager
def _failures() -> Iterator[None]:
    from netkit.errors import KernelError, NetkitError

    try:
        yield
    except KernelError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise Failure(str(error)) from error
        raise Failure(
            f"{error}: netkit capture needs root (CAP_NET_RAW, CAP_NET_ADMIN, and CAP_SYS_ADMIN "
            "to enter namespaces)"
        ) from error
    except NetkitError as error:
        raise Failure(str(error)) from error
