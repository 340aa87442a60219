"""A full or broken disk is told in a line, in the answer or in the stream."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncGenerator

import pytest

from netkit.errors import KernelError, disk_fault
from runtime.api.server import progress_stream


def test_a_disks_fault_says_where_and_what_and_others_are_none() -> None:
    fault = disk_fault(OSError(errno.ENOSPC, "No space left on device", "/Store/New"))
    assert isinstance(fault, KernelError)
    assert str(fault) == "/Store/New: no space left on device"
    assert fault.errno == errno.ENOSPC
    assert str(disk_fault(OSError(errno.EIO, "Input/output error"))) == "input/output error"
    assert disk_fault(OSError(errno.ENOENT, "No such file")) is None
    assert disk_fault(ValueError("x")) is None


async def _lines(error: Exception) -> AsyncGenerator[bytes, None]:
    yield b"first"
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), b"no space left on device"),
        (KeyError("x"), b"unexpected KeyError"),
    ],
)
def test_an_error_in_the_middle_of_progress_is_the_streams_last_object(
    error: Exception, said: bytes
) -> None:
    async def read() -> list[bytes]:
        told = progress_stream._with_failure(_lines(error), progress_stream._failure)
        return [line async for line in told]

    first, last = asyncio.run(read())
    assert first == b"first"
    assert said in last


def test_a_client_that_left_is_told_nothing() -> None:
    async def read() -> list[bytes]:
        gone = ConnectionResetError("left")
        told = progress_stream._with_failure(_lines(gone), progress_stream._failure)
        return [line async for line in told]

    with pytest.raises(ConnectionResetError):
        asyncio.run(read())
