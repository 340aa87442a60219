"""Running nft commands in a namespace: the library in this process, else the program.

`libnftables` is what the program nft is made of; a command costs 0.2 ms by it and 4 ms by a
process.  Both read the same text, which is one transaction: all of it happens or nothing.
A context keeps the socket, hence the namespace, of the thread that makes it, and costs 0.03 ms:
one is made for each call, so that threads and namespaces never share one.
Source: nftables, include/nftables/libnftables.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from netkit.errors import KernelError
from netkit.kernel import netns
from netkit.kernel.iptables import SBIN
from netkit.nft import family_of

LIBRARY = "libnftables.so.1"
STATELESS, HANDLE, TERSE = 1 << 2, 1 << 3, 1 << 11  # output: no counters, handles, no elements
TIMEOUT = 60  # seconds, of the program
SAID = re.compile(r"Error: (?:Could not process rule: )?(.*)")
ERRORS = {os.strerror(n): n for n in (errno.EEXIST, errno.ENOENT, errno.EBUSY, errno.EPERM)}

Run = Callable[[str], tuple[bool, str, str]]  # commands -> (done, output, errors)


@dataclass(frozen=True, slots=True)
class Nft:
    """Runs nft commands in the namespace at `home`."""

    home: str
    run: Run

    @classmethod
    def at(cls, home: str, library: str = "") -> Nft:
        """By the library, or by the program where there is no library."""
        try:
            return cls(home, _Library(ctypes.CDLL(library or LIBRARY)).run)
        except OSError:
            return cls(home, _program)

    def apply(self, commands: str) -> None:
        """All of them or none.  The KernelError holds what nft says and the line it blames."""
        self._done(commands)

    def listing(self, table: str, chain: str) -> list[str]:
        """The rules of a chain, one a line, each with ` # handle N` at its end."""
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


class _Library:
    """The eight functions of libnftables that we need."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self._lib = lib
        lib.nft_ctx_new.restype = ctypes.c_void_p
        lib.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(lib, name).argtypes = [ctypes.c_void_p]
        lib.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        lib.nft_run_cmd_from_filename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(lib, name).argtypes = [ctypes.c_void_p]
            getattr(lib, name).restype = ctypes.c_char_p

    def run(self, commands: str) -> tuple[bool, str, str]:
        lib = self._lib
        context = lib.nft_ctx_new(0)
        if not context:
            raise KernelError("libnftables: no context", errno=errno.ENOMEM)
        try:
            lib.nft_ctx_buffer_output(context)
            lib.nft_ctx_buffer_error(context)
            lib.nft_ctx_output_set_flags(context, STATELESS | HANDLE | TERSE)
            with _file(commands) as path:
                code = lib.nft_run_cmd_from_filename(context, path.encode())
            out = lib.nft_ctx_get_output_buffer(context) or b""
            errors = lib.nft_ctx_get_error_buffer(context) or b""
        finally:
            lib.nft_ctx_free(context)
        return code == 0, out.decode(errors="replace"), errors.decode(errors="replace")


@contextmanager
def _file(text: str) -> Iterator[str]:
    """A path to read it from: of a buffer, the library quotes the first line whatever it blames."""
    fd = os.memfd_create("nft", os.MFD_CLOEXEC)
    try:
        with open(fd, "w", closefd=False) as f:
            f.write(text)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _program(commands: str) -> tuple[bool, str, str]:
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    try:
        done = subprocess.run(
            ["nft", "-s", "-a", "-t", "-f", "-"],
            input=commands,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            env={**os.environ, "LC_ALL": "C", "PATH": path},
        )
    except FileNotFoundError as e:
        raise KernelError("nft is not installed: install the package nftables") from e
    except subprocess.TimeoutExpired as e:
        raise KernelError(f"nft did not end in {TIMEOUT} s and was killed") from e
    except OSError as e:
        raise KernelError(f"cannot run nft: {e.strerror}", errno=e.errno) from e
    return done.returncode == 0, done.stdout, done.stderr
