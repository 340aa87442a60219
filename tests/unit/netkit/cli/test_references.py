"""Names of images are checked as docker's client checks them; empty names are no paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from netkit.cli.app import run
from netkit.cli.references import INVALID, Reference, is_id, parsed
from tests.unit.netkit.cli.cli_fake_daemon import anywhere

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("busybox", Reference("busybox", "", "")),
        ("h:5000/a/b_c:1.0", Reference("h:5000/a/b_c", "1.0", "")),
        ("[::1]:5000/a", Reference("[::1]:5000/a", "", "")),
        (f"a@sha256:{HEX}", Reference("a", "", f"sha256:{HEX}")),
        (f"a:b@sha256:{HEX}", Reference("a", "b", f"sha256:{HEX}")),
        ("sha256:0123", Reference("sha256", "0123", "")),
        ("Host.example/a", Reference("Host.example/a", "", "")),
    ],
)
def test_names_have_parts(text: str, found: Reference) -> None:
    assert parsed(text) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", INVALID),
        ("a b", INVALID),
        ("a:", INVALID),
        ("a:b:c", INVALID),
        ("a@sha256:1", INVALID),
        ("-a", INVALID),
        ("a/", INVALID),
        ("h:x/a", INVALID),
        ("A B", f"{INVALID}: repository name (library/A B) must be lowercase"),
        ("h:5000/A", f"{INVALID}: repository name (A) must be lowercase"),
        (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_what_is_no_name_is_refused_in_dockers_words(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parsed(text)


def test_an_id_is_known_with_and_without_its_algorithm() -> None:
    assert is_id(HEX)
    assert is_id(f"sha256:{HEX}")
    assert not is_id(HEX[:12])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["inspect", ""], "invalid container name or ID: value is empty"),
        (["inspect", "/"], "invalid container name or ID: value is empty"),
        (["rm", " "], "invalid container name or ID: value is empty"),
        (["volume", "rm", ""], "invalid volume name or ID: value is empty"),
        (["network", "inspect", ""], "invalid network name or ID: value is empty"),
        (["image", "inspect", ""], "Error: No such image: "),
        (["pull", "A B"], "invalid reference format: repository name (library/A B)"),
        (["push", "A"], "invalid reference format: repository name (library/A)"),
        (["tag", "", "x"], 'Error parsing reference: "" is not a valid repository/tag'),
        (["commit", "web", "a b"], "invalid reference format\n"),
        (["import", "-", "A"], "invalid reference format: repository name (library/A)"),
        (["run", "A"], "invalid reference format: repository name (library/A)"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_asked_or_printed(
    line: list[str], said: str, capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with anywhere() as daemon:
        assert run(["-H", f"unix://{daemon.server_address}", *line]) in (1, 125)
        asked = [row for row in daemon.record.rows() if "_ping" not in str(row)]
    out, err = capfd.readouterr()
    assert (out.strip(" \n[]"), asked) == ("", [])
    assert said in err
    assert err.count("\n") == 1
