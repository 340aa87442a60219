"""Run nft commands in a namespace.

Each text is one transaction: all of it happens or nothing.  libnftables in this process would
save 4 ms a command, but release 1.0.6 was seen to abort() now and then on a few hundred interval
elements, which takes the whole daemon with it; so it is given a process, as python-iptables is.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel import run as program
from netkit.kernel.iptables.tools import SBIN
from netkit.model.nftables import family_of

STATELESS, HANDLES, TERSE = "-s", "-a", "-t"  # no counters, with handles, without elements
TIMEOUT = 60  # seconds, of the program
SAID = re.compile(r"Error: (?:Could not process rule: )?(.*)")
ERRORS = {os.strerror(n): n for n in (errno.EEXIST, errno.ENOENT, errno.EBUSY, errno.EPERM)}

Run = Callable[[str], tuple[bool, str, str]]  # commands -> (done, output, errors)


def _program(commands: str) -> tuple[bool, str, str]:
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    try:
        argv = ["nft", STATELESS, HANDLES, TERSE, "-f", "-"]
        env = {**os.environ, "LC_ALL": "C", "PATH": path}
        done = program.run(argv, commands, timeout=TIMEOUT, env=env)
    except FileNotFoundError as e:
        raise KernelError("nft is not installed: install the package nftables") from e
    except subprocess.TimeoutExpired as e:
        raise KernelError(f"nft did not end in {TIMEOUT} s and was killed") from e
    except OSError as e:
        raise KernelError(f"cannot run nft: {e.strerror}", errno=e.errno) from e
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        said = done.stderr.strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise KernelError(f"nft was ended by {name}{why}", errno=errno.EAGAIN)
    return done.returncode == 0, done.stdout, done.stderr


@dataclass(frozen=True, slots=True)
class Nft:
    """Runs nft commands in the namespace at `home`."""

    home: str
    run: Run = _program

    def apply(self, commands: str) -> None:
        """Run all of them or none.  The KernelError has nft's message and the line it names.

        With errno EAGAIN nft itself broke down: it may have happened all the same.
        """
        self._done(commands)

    def listing(self, table: str, chain: str) -> list[str]:
        """List the rules of a chain, one a line, each with ` # handle N` at its end."""
        family, name = family_of(table)
        out = self._done(f"list chain {family} {name} {chain}\n")
        return [line.strip() for line in out.splitlines()]

    def _done(self, commands: str) -> str:
        with netns.inside(self.home):
            done, out, errors = self.run(commands)
        if not done:
            raise _refused(errors)
        return out


def _refused(errors: str) -> KernelError:
    said = SAID.search(errors)
    reason = said[1].split("; did you mean")[0] if said else errors.strip() or "no reason given"
    after = errors[said.end() :].strip("\n").splitlines() if said else []
    blamed = f": {after[0].strip()}" if after else ""
    return KernelError(f"nft: {reason}{blamed}", errno=ERRORS.get(reason))
