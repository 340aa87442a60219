"""A README's transcripts, typed at a terminal as its reader would: on hosts, in containers there.

    h1$ docker run -it --name web debian:bookworm /bin/bash     typed on host h1
    root@web:/# cat > page <<END                                typed in what runs there
    > text                                                      ... a line that goes on
    root@web:/# ^P^Q                                            these keys
    h1$ docker port web
    80/tcp -> 0.0.0.0:...                                       in its output; "..." is anything

A command must end with 0, one with "# fails" must not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from netkit.lab.model import Places
from tests.engine.terminal import Terminal

SECONDS = 120
TYPED = re.compile(r"    (?:(?P<host>[a-z]\w*)\$|root@\S+#) (?P<line>.*)")
ESCAPES = re.compile(rb"\x1b\[[\d;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x0f|\r")
IN_CONTAINER = rb"root@[\w.-]+:[^\n]*# $"
KEYS = re.compile(r"(?:\^[A-Z])+")


@dataclass
class Step:
    """One line that is typed, and lines of its output."""

    host: str  # "": in what the line before has started
    typed: str
    expected: list[str] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        return "# fails" in self.typed


def steps(lines: Sequence[str]) -> list[Step]:
    """The steps of a block."""
    found: list[Step] = []
    for line in lines:
        if match := TYPED.fullmatch(line):
            found.append(Step(match["host"] or "", match["line"]))
        elif line.startswith("    > ") or line == "    >":
            found[-1].typed += f"\n{line[6:]}"
        elif line.startswith("    ") and found:
            found[-1].expected.append(line.strip())
    return found


def blocks(text: str) -> Iterator[list[str]]:
    """Indented blocks of a page."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("    "):
            block.append(line)
        elif block:
            yield block
            block = []


class Shells:
    """`netkit lab sh` on each host while the context is; `docker` runs the clients in turn."""

    def __init__(self, lab: str, clients: Sequence[str], clone: Path) -> None:
        self.lab, self.clients, self.clone = lab, clients, clone
        self._open: dict[str, Terminal] = {}
        self._stack = ExitStack()
        self._at = ""

    def __enter__(self) -> Shells:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def play(self, step: Step) -> str:
        """Type a step; return its output.  AssertionError if it is not what the page says."""
        self._at = step.host or self._at
        terminal = self._terminal(self._at)
        if KEYS.fullmatch(step.typed):
            for key in step.typed[1::2]:
                terminal.send(bytes([ord(key) - 64]))
            return self._output(terminal)
        terminal.send(step.typed.encode() + b"\n")
        if step.typed.startswith("docker attach"):
            self._enter(terminal)
        output = self._output(terminal)
        terminal.send(b'echo "status=$?"\n')
        answer = self._output(terminal, past=rb"(?m)^status=\d+$")
        status = re.search(r"^status=(\d+)$", answer, re.M)
        assert status is not None, step
        failed = int(status[1]) != 0
        assert failed == step.fails, f"{step.typed}: exit {status[1]}\n{output}"
        missing = absent(output, step.expected)
        assert not missing, f"{step.typed}: no {missing!r} in\n{output}"
        return output

    def _terminal(self, host: str) -> Terminal:
        if host not in self._open:
            argv = [sys.executable, "-m", "netkit", "lab", "sh", self.lab, host]
            env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
            env |= {"SHELL": "/bin/sh", "TERM": "xterm", "DOCKER_CLI_HINTS": "false",
                    "DOCKER_CONFIG": f"{Places(lab=self.lab).folder}/docker"}  # fmt: skip
            os.chdir(self.clone)
            terminal = self._stack.enter_context(Terminal(argv, env=env, size=(50, 500)))
            self._open[host] = terminal
            self._output(terminal)
            terminal.send(in_turn(self.clients).encode() + b"\n")
            self._output(terminal)
        return self._open[host]

    def _enter(self, terminal: Terminal) -> None:
        """Press Enter where a shell that was attached to does not draw its prompt again.

        The client resizes the terminal by one and back for that; both may be one signal.
        """
        with suppress(AssertionError):
            terminal.until(lambda seen: bool(re.search(IN_CONTAINER, ESCAPES.sub(b"", seen))), 2)
        terminal.send(b"\n")

    def _output(self, terminal: Terminal, past: bytes = b"") -> str:
        """What has come until the next prompt, but for that and the line that was typed.

        `past`: a pattern that comes before that prompt: a shell that is attached to shows several.
        """
        prompt = re.compile(rb"(?:^|\n)(?:%s \w+ # |%s)$" % (self.lab.encode(), IN_CONTAINER))

        def enough(seen: bytes) -> bool:
            text = ESCAPES.sub(b"", seen)
            return bool(re.search(past, text) and prompt.search(text))

        shown = terminal.until(enough, SECONDS)
        text = prompt.sub(b"", ESCAPES.sub(b"", shown)).decode(errors="replace")
        return text.partition("\n")[2]


def in_turn(clients: Sequence[str]) -> str:
    """A shell's function `docker`: the clients, one after another with each call."""
    cases = " ".join(f'{n}) command {each} "$@";;' for n, each in enumerate(clients))
    turn = f"TURN=$(((${{TURN:-{len(clients) - 1}}} + 1) % {len(clients)}))"
    return f"docker() {{ {turn}; case $TURN in {cases} esac; }}"


def absent(output: str, expected: Sequence[str]) -> str | None:
    """The first expected line that does not follow those before it; None if all do."""
    lines = iter(output.splitlines())
    for wanted in expected:
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        if wanted != "..." and not any(re.fullmatch(pattern, line.strip()) for line in lines):
            return wanted
    return None
