"""--since and --until: durations back from now, dates, unix times, as the API's seconds."""

from __future__ import annotations

import re

from netkit.cli.values import duration
from netkit.client.failure import Failure

UNIX = r"\d+(\.\d{1,9})?"
DATE = (
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d(?::\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?"
)


def seconds(text: str, now: float) -> str:
    """ "10m", "2025-05-30T12:00:00Z", "1748600000.5"; "" stays.  Failure for anything else.

    A date without a zone is local time.
    """
    if not text or re.fullmatch(UNIX, text):
        return text
    try:
        back = duration(text)
    except ValueError:
        return _date(text)
    at = round(now * 10**9) - back
    return f"{at // 10**9}.{at % 10**9:09d}"


def _date(text: str) -> str:
    match = re.fullmatch(DATE, text)
    if match is None:
        raise Failure(
            f'invalid time {text!r}: use a duration ("10m"), a date'
            ' ("2006-01-02T15:04:05Z") or unix seconds'
        )
    from datetime import datetime

    day, clock, fraction, zone = match.groups()
    clock = clock or "00"
    full = clock + ":00" * (2 - clock.count(":"))
    try:
        moment = datetime.fromisoformat(f"{day}T{full}{zone or ''}")
    except ValueError as error:
        raise Failure(f"invalid time {text!r}: {error}") from None
    return f"{int(moment.timestamp())}.{(fraction or '0').ljust(9, '0')}"
