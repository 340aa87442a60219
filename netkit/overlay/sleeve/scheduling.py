"""How the kernel schedules a worker beside the programs whose frames it carries.

Woken by each frame, a worker would preempt who wrote it, and each frame would be answered by
itself: see docs/weave-internals.md, "What was tried".  Source: sched(7).
"""

from __future__ import annotations

import os
from contextlib import suppress

RECEIVING = -5  # nice(2)


def schedule(*, receives: bool) -> None:
    """Have this process preempt no other when it is woken (SCHED_BATCH).

    Frames that arrive meanwhile are then taken together, and fewer of what they are answered with
    are sent.  Who receives has a larger share of a busy processor than the programs that it
    receives for, as the kernel's own receiving has; without CAP_SYS_NICE it has the same.  Threads
    that are started later inherit both.
    """
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if receives:
        with suppress(PermissionError):
            os.nice(RECEIVING)
