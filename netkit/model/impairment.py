"""What a link does to packets, one way: delay, loss, rate and the like.  Pure.

Words and units are those of tc-netem(8) and tc(8), where a number without a unit has a default
that differs from field to field: here it is refused.

    delay 20ms jitter 5ms loss 1% rate 10mbit duplicate 1% reorder 1% corrupt 0.1% | down
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from netkit.errors import InvalidSpec
from netkit.suggestion import hint

MAX_DELAY = 60.0  # seconds: what is on its way is kept in memory
MIN_RATE, MAX_RATE = 1_000, 100_000_000_000  # bit/s
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
SHARES = ("loss", "duplicate", "reorder", "corrupt")
MAX_SEED = (1 << 32) - 1
MAX_TEXT = 40  # characters of a value that a message quotes
_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)([a-zA-Z%/]*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairment:
    """Of one direction.  InvalidSpec where values do not go together.

    Delay and jitter are in seconds: a packet takes `delay`, give or take up to `jitter`, evenly
    distributed.  The share `reorder` of the packets is not delayed and so overtakes others.
    """

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0  # shares of the packets, 0 to 1
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0  # a bit of it is flipped
    rate: int = 0  # bit/s of frames with their Ethernet header; 0: no limit
    down: bool = False

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidSpec(f"{name} must be from 0% to 100%")
        if not 0 <= self.delay <= MAX_DELAY:
            raise InvalidSpec(f"delay must be from 0 to {MAX_DELAY:g}s")
        if self.rate and not MIN_RATE <= self.rate <= MAX_RATE:
            raise InvalidSpec("rate must be from 1kbit to 100gbit")
        if self.jitter and not self.delay:
            raise InvalidSpec("jitter without delay: give the delay that varies, as delay 20ms")
        if not 0 <= self.jitter <= self.delay:
            raise InvalidSpec(
                f"jitter {duration(self.jitter)} is more than the delay {duration(self.delay)}: "
                "no packet arrives before it is sent"
            )
        if self.reorder and not self.delay:
            raise InvalidSpec("reorder without delay: nothing waits that could be overtaken")
        if self.down and any(getattr(self, f.name) for f in fields(self) if f.name != "down"):
            raise InvalidSpec("down lets nothing pass: leave out the rest")

    def __bool__(self) -> bool:
        """Whether anything happens to packets."""
        return self != PERFECT

    def __str__(self) -> str:
        """As `parsed` reads it; "none" for no impairment."""
        words = []
        for name in ("delay", "jitter"):
            if seconds := getattr(self, name):
                words.append(f"{name} {duration(seconds)}")
        words += [f"{n} {share(v)}" for n in SHARES if (v := getattr(self, n))]
        if self.rate:
            words.append(f"rate {bitrate(self.rate)}")
        if self.down:
            words.append("down")
        return " ".join(words) or "none"


PERFECT = Impairment()
FIELDS = tuple(f.name for f in fields(Impairment))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """Of a link, seen from the machine at its end: what it sends (`out`), and what it gets."""

    out: Impairment = PERFECT
    into: Impairment = PERFECT
    seed: int | None = None  # of the random numbers, where they are netkit's own

    def __bool__(self) -> bool:
        return bool(self.out or self.into)

    def __str__(self) -> str:
        both = str(self.out) if self.out == self.into else f"out: {self.out}; in: {self.into}"
        return both if self.seed is None else f"{both} (seed {self.seed})"


def both_ways(values: Mapping[str, object]) -> TwoWay:
    """From `{delay: 20ms}`, for both ways, or `{out: {delay: 20ms}, in: {}}`; InvalidSpec."""
    left = dict(values)
    seed = left.pop("seed", None)
    if seed is not None and (type(seed) is not int or not 0 <= seed <= MAX_SEED):
        raise InvalidSpec(f"seed is a number from 0 to {MAX_SEED}, not {_quoted(seed)}")
    ways = {way: left.pop(way) for way in ("out", "in") if way in left}
    if ways and left:
        raise InvalidSpec(f"{next(iter(left))} beside {next(iter(ways))}: for which way? Move it")
    read = {}
    for way, inner in ways.items():
        if not isinstance(inner, Mapping):
            raise InvalidSpec(f"{way} is a mapping of impairments, not {_quoted(inner)}")
        read[way] = given(inner)
    if not ways:
        one = given(left)
        return TwoWay(out=one, into=one, seed=seed)
    return TwoWay(out=read.get("out", PERFECT), into=read.get("in", PERFECT), seed=seed)


def spelled(way: TwoWay) -> dict[str, object]:
    """As `both_ways` reads it: for files."""
    seed = {} if way.seed is None else {"seed": way.seed}
    return {"out": values(way.out), "in": values(way.into), **seed}


def values(one: Impairment) -> dict[str, object]:
    """As `given` reads them."""
    if one.down:
        return {"down": True}
    words = [] if one == PERFECT else str(one).split()
    return dict(zip(words[::2], words[1::2], strict=True))


def given(values: Mapping[str, object]) -> Impairment:
    """From words by name, as a document or a command line has them.  InvalidSpec."""
    for name in values:
        if name not in FIELDS:
            raise _unknown_name(name)
    found: dict[str, float | int | bool] = {}
    for name, value in values.items():
        if name == "down":
            if not isinstance(value, bool):
                raise InvalidSpec(f"down is true or false, not {_quoted(value)}")
            found[name] = value
        elif not isinstance(value, str):
            raise InvalidSpec(f"{name}: {_quoted(value)} has no unit: write {_example(name)}")
        else:
            found[name] = _number(name, value)
    return Impairment(**found)  # type: ignore[arg-type]


def seconds(text: str) -> float:
    """Of a duration as `2s`, `500ms`.  InvalidSpec."""
    return float(_number("duration", text))


def parsed(words: Sequence[str]) -> Impairment:
    """From words in a row: `delay 20ms loss 1%`, `down`, or `none`.  InvalidSpec."""
    if list(words) == ["none"]:
        return PERFECT
    values: dict[str, object] = {}
    left = list(words)
    while left:
        name = left.pop(0)
        if name not in FIELDS:
            raise _unknown_name(name)
        if name in values:
            raise InvalidSpec(f"{name} is given twice")
        if name != "down" and not left:
            raise InvalidSpec(f"{name} lacks its value: write {name} {_example(name)}")
        values[name] = True if name == "down" else left.pop(0)
    if not values:
        raise InvalidSpec(f"no impairment is given{_known()}")
    return given(values)


def _number(name: str, text: str) -> float | int:
    if text.startswith("-"):
        raise InvalidSpec(f"{name} {_quoted(text)} is negative: write {_example(name)}")
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise InvalidSpec(f"{name} {_quoted(text)} is no quantity: write {_example(name)}")
    number, unit = float(found[1]), found[2].lower()
    if not unit:
        raise InvalidSpec(f"{name} {_quoted(text)} has no unit: write {_example(name)}")
    if name in SHARES:
        if unit != "%":
            raise _unknown(name, unit, ("%",))
        if number > 100:
            raise InvalidSpec(f"{name} {text} is more than 100%")
        return round(number / 100, 9)
    units: Mapping[str, float] = RATES if name == "rate" else TIMES
    if unit not in units:
        raise _unknown(name, unit, tuple(units))
    if name == "rate":
        return max(round(number * units[unit]), 1)  # 0 would be no limit
    return round(number * units[unit], 9)  # nanoseconds


def _unknown_name(name: str) -> InvalidSpec:
    return InvalidSpec(f"unknown impairment {_quoted(name)}{hint(name, FIELDS) or _known()}")


def _unknown(name: str, unit: str, known: Sequence[str]) -> InvalidSpec:
    return InvalidSpec(
        f"{name}: unknown unit {unit[:MAX_TEXT]!r} (known: {', '.join(known)}): "
        f"write {_example(name)}"
    )


def _example(name: str) -> str:
    return {"delay": "20ms", "jitter": "5ms", "rate": "10mbit", "duration": "2s"}.get(name, "1%")


def _known() -> str:
    return f" (known: {', '.join(FIELDS)})"


def _quoted(value: object) -> str:
    return repr(value)[:MAX_TEXT]


def _plain(value: float) -> str:
    """Without an exponent, which is not read again."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def duration(seconds: float) -> str:
    """ "20ms": the largest unit of which it is at least one."""
    unit = next((u for u in ("s", "ms") if seconds >= TIMES[u]), "us")
    return f"{_plain(seconds / TIMES[unit])}{unit}"


def share(value: float) -> str:
    return f"{_plain(value * 100)}%"


def bitrate(rate: int) -> str:
    unit = next((u for u in ("gbit", "mbit", "kbit") if rate >= RATES[u]), "bit")
    return f"{_plain(rate / RATES[unit])}{unit}"
