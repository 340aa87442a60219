"""Versions of runc and its kind, as `info` and `version` show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.oci import versions

RUNC = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RUNC, ("1.1.5+ds1", "1.1.5+ds1-1+deb12u1")),
        ("conmon version 2.1.6\ncommit: unknown\n", ("2.1.6", "")),
        ("tini version 0.19.0\n", ("0.19.0", "")),
        ("crun version 1.8.1\ncommit: f8a096b\n", ("1.8.1", "f8a096b")),
        ("version", ("", "")),
        ("", ("", "")),
    ],
)
def test_versions_that_programs_print(text: str, expected: tuple[str, str]) -> None:
    assert versions.parse(text) == expected


def test_a_program_that_is_not_there_has_no_version(tmp_path: Path) -> None:
    assert versions.version(str(tmp_path / "runc")) == versions.commit("") == ""
    (tmp_path / "runc").write_text("no program")
    assert versions.commit(str(tmp_path / "runc")) == ""
