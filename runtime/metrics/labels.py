"""Names of users' as values of labels.  Pure."""

from __future__ import annotations

import re

LONGEST = 128  # characters

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def label(name: str, id: str) -> str:
    """`name` without control characters and what is no Unicode text, and not too long.

    Where that changes it, the beginning of `id` is added: no two things have one label.
    """
    fit = _UNFIT.sub("_", name)[:LONGEST]
    return fit if fit == name and fit else f"{fit}~{id[:12]}"
