"""Patterns of COPY and of .dockerignore: cases of Go's, and properties against simple models."""

from __future__ import annotations

import random
import time

import pytest

from netkit.patterns import BadPattern, Glob, Ignored, clean, ignore_lines

YES = (
    ("abc", "abc"), ("*", "abc"), ("*c", "abc"), ("a*", "a"), ("a*", "abc"), ("a*/b", "abc/b"),
    ("a*b*c*d*e*/f", "axbxcxdxe/f"), ("a*b*c*d*e*/f", "axbxcxdxexxx/f"), ("ab[c]", "abc"),
    ("ab[b-d]", "abc"), ("ab[^e-g]", "abc"), ("a\\*b", "a*b"), ("a?b", "a☺b"), ("a[^a]b", "a☺b"),
    ("[a-ζ]*", "é"), ("[\\]a]", "]"), ("[\\-]", "-"), ("[x\\-]", "x"), ("[x\\-]", "-"),
    ("*x", "xxx"),
    ("", ""), ("[^a]x", "/x"),
)  # fmt: skip
NO = (
    ("a*", "ab/c"), ("a*/b", "a/c/b"), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f"), ("ab[e-g]", "abc"),
    ("ab[^c]", "abc"), ("a\\*b", "ab"), ("a???b", "a☺b"), ("*[a-ζ]*", "A"), ("a?b", "a/b"),
    ("a*b", "a/b"), ("*", "a/b"), ("[x\\-]", "z"), ("abc", "ab"), ("", "a"),
)  # fmt: skip
BAD = ("[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a/[", "[a\\", "[a")


@pytest.mark.parametrize(("pattern", "path"), YES)
def test_it_matches_what_gos_does(pattern: str, path: str) -> None:
    assert Glob(pattern).matches(path)


@pytest.mark.parametrize(("pattern", "path"), NO)
def test_it_does_not_match_what_gos_does_not(pattern: str, path: str) -> None:
    assert not Glob(pattern).matches(path)


@pytest.mark.parametrize("pattern", BAD)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern, match="syntax error in pattern"):
        Glob(pattern)


def plainly(pattern: str, path: str) -> bool:
    """filepath.Match by trying everything: for stars, question marks and letters."""
    if not pattern:
        return not path
    if pattern[0] == "*":
        return plainly(pattern[1:], path) or (
            bool(path) and path[0] != "/" and plainly(pattern, path[1:])
        )
    if not path or (path[0] == "/" if pattern[0] == "?" else path[0] != pattern[0]):
        return False
    return plainly(pattern[1:], path[1:])


def test_it_agrees_with_trying_everything() -> None:
    dice = random.Random(11)
    for _ in range(2000):
        pattern = "".join(dice.choice("ab/?**") for _ in range(dice.randrange(7)))
        path = "".join(dice.choice("aab/") for _ in range(dice.randrange(7)))
        assert Glob(pattern).matches(path) == plainly(pattern, path), (pattern, path)


def whole(pattern: str, path: str) -> bool:
    """A pattern of whole components, "**" any number of them, by trying everything."""

    def fits(left: list[str], right: list[str]) -> bool:
        if not left:
            return not right
        if left[0] != "**":
            return bool(right) and plainly(left[0], right[0]) and fits(left[1:], right[1:])
        if left[1:] == []:
            return bool(right)
        return any(fits(left[1:], right[n:]) for n in range(len(right) + 1))

    return fits(pattern.split("/"), path.split("/"))


def test_two_stars_agree_with_trying_every_number_of_folders() -> None:
    dice = random.Random(7)
    for _ in range(2000):
        parts = dice.choices(("a", "b", "*", "a*", "**"), k=1 + dice.randrange(4))
        pattern = "/".join(parts)
        path = "/".join(dice.choices(("a", "b", "ab"), k=1 + dice.randrange(4)))
        if "**/**" in pattern or (pattern.endswith("**") and pattern.count("*") > 2):
            continue  # Docker then lets the first match nothing, which is no number of folders
        assert Glob(pattern, double_star=True).matches(path) == whole(pattern, path), (
            pattern, path,
        )  # fmt: skip


def test_no_pattern_takes_long() -> None:
    begun = time.monotonic()
    for pattern in ("*a" * 500 + "b", "**/a" * 500 + "/b", "[^b]*" * 300, "?*" * 300):
        Glob(pattern, double_star=True).matches("a/" * 1000 + "ab")
    assert time.monotonic() - begun < 5


def test_lines_of_a_dockerignore() -> None:
    text = "\ufeffa.txt\r\n# no\n #yes\n\n  !  b/../c  \n/d/\n//e\n.\n!\n"
    assert ignore_lines(text) == ["a.txt", "#yes", "!c", "d", "e", ".", "!"]
    with pytest.raises(ValueError, match="illegal exclusion pattern"):
        Ignored(["!"])


def test_the_last_pattern_that_matches_decides() -> None:
    ignored = Ignored(["*", "!d", "d/x"])
    left_out = {path: ignored.matches(path) for path in ("a", "d", "d/y", "d/x", "d/x/z")}
    assert left_out == {"a": True, "d": False, "d/y": False, "d/x": True, "d/x/z": True}
    assert ignored.has_exceptions
    assert (ignored.may_keep_below("d"), ignored.may_keep_below("e")) == (True, False)


def test_with_what_is_known_of_the_folder_above_it_says_the_same() -> None:
    dice = random.Random(5)
    words = ("a", "b", "*", "**", "a*", "**/b", "a/b", "b/**", "!a", "!a/b", "!**/a", "!b/*")
    for _ in range(400):
        ignored = Ignored([dice.choice(words) for _ in range(dice.randrange(5))])
        for path in ("a", "b", "a/b", "b/a", "a/b/a"):
            folder = path.rpartition("/")[0]
            above = ignored.look(folder)[1] if folder else []
            if all(ignored.look(folder)[1]) or not folder:
                assert ignored.look(path, above)[0] == ignored.matches(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("//a", "/a"), ("a//b/", "a/b"), ("", "."), ("../a/..", ".."), ("/..", "/")],
)  # fmt: skip
def test_clean_is_gos(path: str, expected: str) -> None:
    assert clean(path) == expected
