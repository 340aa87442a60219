"""Replace what differs from run to run: identifiers, hashes, times, sizes, paths."""

from __future__ import annotations

import re
from typing import Any

_ID = r"(?<![0-9a-zA-Z])[0-9a-f]{%d}(?![0-9a-zA-Z])"


class Normal:
    """Identifiers become <id1>, <id2>... in the order of first sight; a short and a long one are
    the same."""

    def __init__(self, scratch: str) -> None:
        self._scratch = re.escape(scratch)
        self._ids: list[str] = []

    def _id(self, match: re.Match[str]) -> str:
        text = match[0]
        for number, known in enumerate(self._ids, 1):
            if known.startswith(text) or text.startswith(known):
                return f"<id{number}>"
        self._ids.append(text)
        return f"<id{len(self._ids)}>"

    def text(self, text: str) -> str:
        for pattern, replacement in (
            (r"(file|dir|multi):[0-9a-f]{64}", r"\1:<hash>"),
            (r"((?:ADD|COPY) (?:--chown=\S+?)?)[0-9a-f]{64} in ", r"\1<hash> in "),
            (r"\.pivot_root\d+", ".pivot_root<n>"),
            (r"One or more build-args \[.*\] were", _sorted_words),
            (r'(Get "https://registry-1.docker.io/v2/":) .*', r"\1 <unreachable>"),
            (r"docker-(import|builder|export)-?\d+", r"docker-\1<n>"),
            (self._scratch + r"(/tmp\w{8})*", "<tmp>"),
            (_ID % 64, self._id),
            (_ID % 12, self._id),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
            (r"(Less than a second|About a minute|\d+ (seconds?|minutes?)) ago", "<ago>"),
            (r"(Up|Exited \(\d+\)) (Less than a second|\d+ seconds?)( ago)?", r"\1 <ago>"),
            (r"(Sending build context to Docker daemon) .*", r"\1 <size>"),
            (r"Total reclaimed space: .*", "Total reclaimed space: <size>"),
            (r"/[^ ]*/(overlay2|vfs|overlay|volumes|tmp|image)/", r"<root>/\1/"),
        ):
            text = re.sub(pattern, replacement, text)
        return text

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {self.text(name): self._field(name, each) for name, each in value.items()}
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name == "Created" and isinstance(value, int):
            return "<unix>"
        if name == "Size" and isinstance(value, int) and value > 100000:
            return "<big>"
        return self.value(value)


def _sorted_words(match: re.Match[str]) -> str:
    before, _, rest = match[0].partition("[")
    words, _, after = rest.rpartition("]")
    return f"{before}[{' '.join(sorted(words.split()))}]{after}"


def lines(text: str) -> list[str]:
    return [line.rstrip("\r") for line in text.replace("\r\r\n", "\n").split("\n")]
