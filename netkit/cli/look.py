"""Looking into one container: diff, logs, port, top."""

from __future__ import annotations

from netkit.cli import human, moments, table, terminal
from netkit.cli.commands import Count, at_least, command, exactly
from netkit.cli.flags import Options, switch, text
from netkit.cli.pump import Frames, write
from netkit.cli.values import unsigned
from netkit.client.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netkit.cli.session import Session

KINDS = {0: "C", 1: "A", 2: "D"}
TOP_WIDTH = 20


@command("CONTAINER", exactly(1))
def diff(session: Session, options: Options) -> None:
    for change in session.engine.get(f"/containers/{options.args[0]}/changes") or ():
        print(KINDS[change["Kind"]], change["Path"])


@command(
    "[OPTIONS] CONTAINER", exactly(1),
    switch("details", "Show extra details provided to logs"),
    switch("follow", "Follow log output", short="f"),
    text("since", "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for"
         " 42 minutes)"),
    text("tail", "Number of lines to show from the end of the logs", short="n", default="all"),
    switch("timestamps", "Show timestamps", short="t"),
    text("until", "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m"
         " for 42 minutes)"),
)  # fmt: skip
def logs(session: Session, options: Options) -> None:
    found = session.engine.get(f"/containers/{options.args[0]}/json")
    answer = session.engine.stream(
        "GET", f"/containers/{found['Id']}/logs",
        {"stdout": True, "stderr": True, "follow": options.flag("follow"),
         "timestamps": options.flag("timestamps"), "details": options.flag("details"),
         "since": moments.seconds(options.text("since"), session.now),
         "until": moments.seconds(options.text("until"), session.now),
         "tail": options.text("tail")},
    )  # fmt: skip
    frames = None if found["Config"]["Tty"] else Frames(terminal.STDOUT, terminal.STDERR)
    for data in answer.chunks():
        if frames is None:
            write(terminal.STDOUT, data)
        else:
            frames.feed(data)


@command("CONTAINER [PRIVATE_PORT[/PROTO]]", Count(1, 2))
def port(session: Session, options: Options) -> None:
    name, *wanted = options.args
    found = session.engine.get(f"/containers/{name}/json")
    ports = found["NetworkSettings"]["Ports"] or {}
    if wanted:
        number, _, proto = wanted[0].partition("/")
        try:
            unsigned(65535)(number)
        except ValueError as error:
            raise Failure(f"Error: invalid port ({number}): {error}") from None
        key = f"{number}/{proto or 'tcp'}"
        if not ports.get(key):
            raise Failure(f"Error: No public port '{wanted[0]}' published for {name}")
        lines = [_address(each) for each in ports[key]]
    else:
        lines = [
            f"{key} -> {_address(each)}" for key, several in ports.items() for each in several or ()
        ]
    for line in sorted(lines, key=human.natural):
        print(line)


def _address(binding: dict[str, str]) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


@command("CONTAINER [ps OPTIONS]", at_least(1), interspersed=False)
def top(session: Session, options: Options) -> None:
    name, *arguments = options.args
    found = session.engine.get(f"/containers/{name}/top", {"ps_args": " ".join(arguments)})
    rows = [found["Titles"], *(found["Processes"] or ())]
    print(table.aligned("\n".join("\t".join(row) for row in rows), least=TOP_WIDTH))
