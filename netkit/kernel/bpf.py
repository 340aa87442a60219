"""Load eBPF programs with bpf(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

CALL = {"x86_64": 321, "aarch64": 280}  # the system call's number
PROG_LOAD = 5  # linux/bpf.h: bpf_cmd
SOCKET_FILTER, SCHED_CLS = 1, 3  # linux/bpf.h: bpf_prog_type


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """Encode one instruction (RFC 9669), 8 bytes."""
    return struct.pack("=BBhI", code, src << 4 | dst, offset, value & 0xFFFFFFFF)


def load(kind: int, program: bytes) -> int:
    """Return a descriptor of the program, closed by exec.  OSError where the kernel refuses it."""
    number = CALL.get(platform.machine())
    if number is None:
        raise OSError(f"bpf(2) is not known on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"")
    places = ctypes.addressof(code), ctypes.addressof(licence)
    asked = ctypes.create_string_buffer(  # union bpf_attr, as far as it is not zero
        struct.pack("=IIQQ", kind, len(program) // 8, *places), 128
    )
    fd = int(libc.syscall(number, PROG_LOAD, asked, len(asked)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
