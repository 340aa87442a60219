"""Measure many containers at once: started by command lines or by requests alone, and removed."""

from __future__ import annotations

import subprocess
import time

from bench import bare
from bench.measures import SLEEP, Measure, Sample, Scale, wipe
from bench.peers import IMAGE, Peer
from bench.requests import removed, run, started


def by_cli(count: int) -> Sample:
    """`count` times `docker run -d`, all at once, until the last has answered."""

    def sample(peer: Peer, scale: Scale) -> list[float]:
        argv = [*peer.cli, "run", "-d", IMAGE, *SLEEP]
        out = []
        for _ in range(_repeats(scale)):
            begin = time.perf_counter()
            runs = [
                subprocess.Popen(
                    argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=peer.environment()
                )
                for _ in range(count)
            ]
            errors = [each.communicate(timeout=300)[1] for each in runs]
            out.append(time.perf_counter() - begin)
            failed = [text for each, text in zip(runs, errors, strict=True) if each.returncode]
            wipe(peer)
            if failed:
                raise RuntimeError(
                    f"{len(failed)} of {count} starts failed: {failed[0].decode()[:300]}"
                )
        return out

    return sample


def starts(count: int) -> Sample:
    """As `by_cli` without the command lines: `count` clients, each creates and starts one."""

    def sample(peer: Peer, scale: Scale) -> list[float]:
        return [_once(peer, count)[0] for _ in range(_repeats(scale))]

    return sample


def removals(count: int) -> Sample:
    """`count` clients, each removes a running container by force."""

    def sample(peer: Peer, scale: Scale) -> list[float]:
        return [_once(peer, count)[1] for _ in range(_repeats(scale))]

    return sample


def _once(peer: Peer, count: int) -> tuple[float, float]:
    """Seconds to start, and seconds to remove."""
    begin = time.perf_counter()
    idents = run(peer, [started() for _ in range(count)])
    middle = time.perf_counter()
    run(peer, [removed(ident) for ident in idents])
    return middle - begin, time.perf_counter() - middle


def _repeats(scale: Scale) -> int:
    return 1 if scale.repeats < 5 else 3


def measures(scale: Scale) -> list[Measure]:
    few, *_ = scale.parallel
    return [
        *(
            Measure(f"{n} parallel run -d", "s", by_cli(n), "a fifth of Docker's", ratio=1 / 5)
            for n in scale.parallel
        ),
        Measure(f"{few} parallel starts by API", "s", starts(few),
                "1.3 of bare conmon and runc", ratio=1 / 5,
                floor=lambda peer, _: bare.starts(peer, few, _repeats(scale)), floor_ratio=1.3),
        Measure(f"{few} parallel rm -f by API", "s", removals(few),
                "1.3 of bare kill and delete",
                floor=lambda peer, _: bare.removals(peer, few, _repeats(scale)), floor_ratio=1.3),
    ]  # fmt: skip
