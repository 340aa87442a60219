"""The language of Dockerfiles: what parses, what it means, and Docker's words where it does not."""

# ruff: noqa: E501  texts of Docker, a case a line

from __future__ import annotations

import time
from typing import Any

import pytest

from netkit.errors import InvalidSpec
from runtime import limits
from runtime.dockerfile import changes, effects, expansion, gotext
from runtime.dockerfile import instructions as dockerfile
from runtime.dockerfile.build_args import BuildArgs, unused
from runtime.dockerfile.effects import StageState
from runtime.dockerfile.parser import Dockerfile, parse
from runtime.dockerfile.stages import Plan, plan


def parsed(text: str) -> Dockerfile:
    return parse(text.encode())


def planned(text: str, **options: Any) -> Plan:
    return plan(parsed(text), **options)


def after(text: str) -> str:
    """The last instruction of a file with one stage, as it is shown."""
    return planned(f"FROM x\n{text}").stages[0].steps[-1].source


def error(text: str) -> str:
    with pytest.raises(InvalidSpec) as caught:
        planned(text)
    return str(caught.value)


def built(*lines: str, config: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[str]]:
    """The configuration after the instructions, and what history says of each."""
    state = StageState(dict(config or {}))
    comments = []
    for found in planned("\n".join(["FROM x", *lines])).stages[0].steps:
        ready = effects.expanded(found, state.variables(), "\\")
        comments.append(effects.apply(state, ready))
    return state.config, comments


@pytest.mark.parametrize(("text", "shown"), [
    ("RUN echo one \\\n  two \\\nthree && \\\n    echo four", "RUN echo one   two three &&     echo four"),
    ("RUN a \\\n# remark\n  # another\n b", "RUN a  b"),
    ("RUN a \\\n\n b", "RUN a  b"),
    ("RUN a \\  \n  b", "RUN a   b"),
    ("RUN a \\", "RUN a"),
    ("ENV a=x\\\\", "ENV a=x\\\\"),
    ("RUN a \\ \\\nb", "RUN a \\ b"),
    ("\tENV  a=1   ", "ENV  a=1"),
    ("RUN\techo\r", "RUN\techo"),
    ("cmd x", "cmd x"),
])  # fmt: skip
def test_lines_are_joined_and_shown_as_docker_does(text: str, shown: str) -> None:
    assert after(text) == shown


def test_an_empty_continuation_line_warns() -> None:
    assert parsed("RUN one \\\n\n two").warnings == (
        "[WARNING]: Empty continuation line found in:\n    RUN one  two",
        "[WARNING]: Empty continuation lines will become errors in a future release.",
    )
    assert parsed("RUN one \\\n two").warnings == ()


@pytest.mark.parametrize(("text", "escape"), [
    ("# escape=`\nFROM x", "`"), ("#ESCAPE = `\nFROM x", "`"), ("\ufeff# escape=`\nFROM x", "`"),
    ("# syntax=docker/dockerfile:1\n# escape=`\nFROM x", "`"), ("# remark\n# escape=`\nFROM x", "\\"),
    ("\n# escape=`\nFROM x", "\\"), ("# escape=\nFROM x", "\\"), ("FROM x\n# escape=`", "\\"),
])  # fmt: skip
def test_directives_are_read_at_the_top_only(text: str, escape: str) -> None:
    assert parsed(text).escape == escape


@pytest.mark.parametrize(("text", "message"), [
    ("", "file with no instructions"),
    ("# only\n\n", "file with no instructions"),
    ("# escape=x\nFROM x", "invalid escape token 'x' does not match ` or \\"),
    ("# escape=`\n# escape=`\nFROM x", "only one escape parser directive can be used"),
    ("FROM x\nENV a=" + "x" * 70000, "dockerfile line greater than max allowed size of 65535"),
    ("FROM x\nENV a", "ENV must have two arguments"),
    ("FROM x\nLABEL a", "LABEL must have two arguments"),
    ("FROM x\nENV a=1 b", 'Syntax error - can\'t find = in "b". Must be of the form: name=value'),
    ("FROM x\nONBUILD ENV a", "ENV must have two arguments"),
    ('FROM x\nCMD ["a", 1]', "when using JSON array syntax, arrays must be comprised of strings only"),
    ("FROM x\nRUN <<EOF\necho\nEOF", "dockerfile parse error line 3: unknown instruction: ECHO"),
    ("FROM x\n\n  # remark\nBar\tx", "dockerfile parse error line 4: unknown instruction: BAR"),
    ("FROM x\nCOPY a", "dockerfile parse error line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined"),
    ("FROM x\ncopy --FROM=one a b", "dockerfile parse error line 2: Unknown flag: FROM"),
    ("FROM x\nCOPY --chown a b", "dockerfile parse error line 2: Missing a value on flag: chown"),
    ("FROM x\nCOPY --chown=1 --chown=2 a b", "dockerfile parse error line 2: Duplicate flag specified: chown"),
    ("FROM x\nRUN --foo a", "dockerfile parse error line 2: Unknown flag: foo"),
    ("FROM x\nENV =x", "dockerfile parse error line 2: ENV names can not be blank"),
    ("FROM x\nARG", "dockerfile parse error line 2: ARG requires at least one argument"),
    ("FROM x\nARG =x", "dockerfile parse error line 2: ARG names can not be blank"),
    ("FROM x\nWORKDIR", "dockerfile parse error line 2: WORKDIR requires exactly one argument"),
    ("FROM x\nSHELL ls", "dockerfile parse error line 2: SHELL requires the arguments to be in JSON form"),
    ("FROM x\nSHELL []", "dockerfile parse error line 2: SHELL requires at least one argument"),
    ('FROM x\nVOLUME [""]', "dockerfile parse error line 2: VOLUME specified can not be an empty string"),
    ("FROM x\nONBUILD FROM y", "dockerfile parse error line 2: FROM isn't allowed as an ONBUILD trigger"),
    ("FROM x\nONBUILD ONBUILD RUN y", "dockerfile parse error line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ("FROM x\nHEALTHCHECK CMD", "dockerfile parse error line 2: Missing command after HEALTHCHECK CMD"),
    ("FROM x\nHEALTHCHECK FOO", 'dockerfile parse error line 2: Unknown type "FOO" in HEALTHCHECK (try CMD)'),
    ("FROM x\nHEALTHCHECK NONE x", "dockerfile parse error line 2: HEALTHCHECK NONE takes no arguments"),
    ("FROM x\nHEALTHCHECK --interval=1 CMD x", 'dockerfile parse error line 2: time: missing unit in duration "1"'),
    ("FROM x\nHEALTHCHECK --interval=1x CMD x", 'dockerfile parse error line 2: time: unknown unit "x" in duration "1x"'),
    ("FROM x\nHEALTHCHECK --interval=x CMD x", 'dockerfile parse error line 2: time: invalid duration "x"'),
    ("FROM x\nHEALTHCHECK --timeout=-1s CMD x", 'dockerfile parse error line 2: Interval "timeout" cannot be less than 1ms'),
    ("FROM x\nHEALTHCHECK --retries=0 CMD x", "dockerfile parse error line 2: --retries must be at least 1 (not 0)"),
    ("FROM x\nHEALTHCHECK --retries=99999999999 CMD x", 'dockerfile parse error line 2: strconv.ParseInt: parsing "99999999999": value out of range'),
    ("FROM x y", "dockerfile parse error line 1: FROM requires either one or three arguments"),
    ("FROM x AS 1a", 'dockerfile parse error line 1: invalid name for build stage: "1a", name can\'t start with a number or contain symbols'),
    ("ENV a=1\nFROM x", "no build stage in current context"),
    ("ARG x", "file with no FROM instruction"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_dockers_words(text: str, message: str) -> None:
    assert error(text) == message


@pytest.mark.slow
def test_odd_files_are_read_in_the_time_of_their_length() -> None:
    begin = time.monotonic()
    error("# escape=" + " " * 60000 + "x" + " " * 5000 + "y\nFROM x")
    planned("FROM x\n" * 5000)
    built("ENV " + " ".join(f"v{n}=1" for n in range(5000)))
    assert time.monotonic() - begin < 5


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCKERFILE_BYTES", 20)
    assert error("FROM x\n" + "# remark\n" * 3) == "file with more than 20 bytes"
    monkeypatch.undo()
    monkeypatch.setattr(limits, "DOCKERFILE_INSTRUCTIONS", 2)
    assert error("FROM x\nRUN a\nRUN b") == "file with more than 2 instructions"
    monkeypatch.setattr(limits, "DOCKERFILE_WORD_BYTES", 10)
    with pytest.raises(InvalidSpec, match="expands to more than 10 bytes"):
        expansion.word("$a$a", {"a": "123456"})
    with pytest.raises(InvalidSpec, match="substitutions within each other"):
        expansion.word("${a:-" * 60 + "}" * 60, {})


@pytest.mark.parametrize(("text", "command", "shell"), [
    ('CMD ["a", "b"]', ("a", "b"), False), ("CMD ['a']", ("['a']",), True),
    ('CMD ["a",]', ('["a",]',), True), ('CMD [ "a" ,\t"b" ]  ', ("a", "b"), False),
    ("CMD []", (), False), ('CMD ["a\\tb\\u0041"]', ("a\tbA",), False),
    ('CMD ["a"] x', ("a",), False), ("CMD  a   b  ", ("a   b",), True), ("CMD", (), True),
    ("CMD [NaN]", ("[NaN]",), True), ('CMD ["\\ud800"]', ("\ufffd",), False),
])  # fmt: skip
def test_json_form_and_shell_form(text: str, command: tuple[str, ...], shell: bool) -> None:
    found = planned(f"FROM x\n{text}").stages[0].steps[0]
    assert isinstance(found, dockerfile.Cmd)
    assert (found.command, found.shell) == (command, shell)


VALUES = {"set": "S", "empty": "", "two": "a b"}


@pytest.mark.parametrize(("text", "expected"), [
    ("${set:-d}", "S"), ("${empty:-d}", "d"), ("${unset:-d}", "d"), ("${set:+p}", "p"),
    ("${empty:+p}", ""), ("${unset:-${set}x}", "Sx"), ("${set:+${empty:-deep}}", "deep"),
    ("pre${set}post", "preSpost"), ("$set-x", "S-x"), ("$setx", ""), ("$unset.", "."),
    ("'$set'", "$set"), ('"$set"', "S"), ("\\$set", "$set"), ('"\\$set"', "$set"), ("'it\\'", "it\\"),
    ('a"b c"d', "ab cd"), ('"x\\"y"', 'x"y'), ("x\\\\y", "x\\y"), ("'x\\ny'", "x\\ny"), ("x\\ny", "xny"),
    ('"x\\ny"', "x\\ny"), ("$", "$"), ("$1b", "b"), ("${set?no}", "S"), ("${empty?no}", ""), ("x\\", "x"),
])  # fmt: skip
def test_words_expand_as_in_docker(text: str, expected: str) -> None:
    assert expansion.word(text, VALUES) == expected


@pytest.mark.parametrize(("text", "message"), [
    ('"x', "unexpected end of statement while looking for matching double-quote"),
    ("'x", "unexpected end of statement while looking for matching single-quote"),
    ("${a", "missing ':' in substitution"), ("${", "syntax error: missing '}'"),
    ("${}", "syntax error: bad substitution"), ("${a:}", "syntax error: missing '}'"),
    ("${a:x}", "unsupported modifier (x) in substitution"), ("${x-d}", "missing ':' in substitution"),
    ('${a:-"b}', "syntax error: missing '}'"), ("${y:?no}", "y: no"), ("${y?}", "y: is not allowed to be unset"),
    ("${empty:?}", "empty: is not allowed to be empty"),
])  # fmt: skip
def test_bad_words_are_refused_in_dockers_words(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        expansion.word(text, VALUES)
    assert str(caught.value) == f"failed to process {gotext.quoted(text)}: {message}"


def test_expose_splits_what_a_variable_holds() -> None:
    assert expansion.words("$two", VALUES) == ["a", "b"]
    assert expansion.words('"$two" c', VALUES) == ["a b", "c"]


@pytest.mark.parametrize(("line", "comment"), [
    ('ENV a=b c="d e"', "ENV a=b c=d e"), ("ENV o p q", "ENV o=p q"), ('LABEL l=m "n o"=p', "LABEL l=m n o=p"),
    ("EXPOSE 80/TCP 53/udp 8000-8001", "EXPOSE 53/udp 80/TCP 8000-8001"), ("VOLUME /v /w", "VOLUME [/v /w]"),
    ("USER app:staff", "USER app:staff"), ("WORKDIR rel", "WORKDIR /rel"), ("ARG x y=z", "ARG x y=z"),
    ('CMD ["x", "y z"]', 'CMD ["x" "y z"]'), ("CMD x y", 'CMD ["/bin/sh" "-c" "x y"]'),
    ("ENTRYPOINT []", "ENTRYPOINT []"), ("STOPSIGNAL 9", "STOPSIGNAL 9"), ("STOPSIGNAL rtmin+3", "STOPSIGNAL rtmin+3"),
    ('HEALTHCHECK --interval=1.5s --retries=65 CMD ["h"]', 'HEALTHCHECK &{["CMD" "h"] "1.5s" "0s" "0s" \'A\'}'),
    ("HEALTHCHECK NONE", 'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" \'\\x00\'}'),
    ("ONBUILD   RUN   x", "ONBUILD RUN   x"), ("MAINTAINER me", "MAINTAINER me"),
    ('SHELL ["/bin/sh","-c"]', "SHELL [/bin/sh -c]"),
])  # fmt: skip
def test_history_has_the_lines_of_docker(line: str, comment: str) -> None:
    assert built(line)[1] == [comment]


@pytest.mark.parametrize(("line", "message"), [
    ("EXPOSE 80/foo", "Invalid proto: foo"), ("EXPOSE 99999", "Invalid containerPort: 99999"),
    ("EXPOSE 1-", "Invalid containerPort: 1-"), ("EXPOSE 5-3", "Invalid containerPort: 5-3"),
    ("EXPOSE /tcp", "No port specified: /tcp<empty>"), ("STOPSIGNAL FOO", "Invalid signal: FOO"),
    ("STOPSIGNAL 0", "Invalid signal: 0"), ("STOPSIGNAL $UNSET", "Invalid signal: "),
    ("WORKDIR $UNSET", "cannot normalize nothing"),
])  # fmt: skip
def test_bad_values_are_refused_in_dockers_words(line: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        built(line)
    assert str(caught.value) == message


def test_entrypoint_resets_an_inherited_command_only() -> None:
    assert built('ENTRYPOINT ["e"]', config={"Cmd": ["a"]})[0]["Cmd"] is None
    assert built('CMD ["a"]', "ENV x=1", 'ENTRYPOINT ["e"]')[0]["Cmd"] == ["a"]
    assert built('ENTRYPOINT ["e"]', 'CMD ["a"]')[0]["Cmd"] == ["a"]


def test_paths_of_workdir_and_ports_of_expose() -> None:
    config, _ = built("WORKDIR a", "WORKDIR ./b", "WORKDIR ../c", "EXPOSE 80:90 127.0.0.1:1:2 80/ 5-6/udp")
    assert config["WorkingDir"] == "/a/c"
    assert sorted(config["ExposedPorts"]) == ["2/tcp", "5/udp", "6/udp", "80/tcp", "90/tcp"]
    assert built("WORKDIR /x//y/./z/")[0]["WorkingDir"] == "/x//y/./z/"


def test_arguments_of_a_build() -> None:
    outer = BuildArgs({"v": "given", "n": None, "HTTP_PROXY": "p", "odd": "1"})
    outer.declare("v", "global")
    outer.declare("t", "outer")
    stage = outer.stage()
    assert stage.outer_values() == {"v": "given", "t": "outer", "HTTP_PROXY": "p"}
    assert stage.environment([]) == ["HTTP_PROXY=p"]
    assert stage.recorded(stage.environment([])) == []
    for name, default in (("v", None), ("t", None), ("n", "default"), ("late", "x")):
        stage.declare(name, default)
    assert stage.environment(["late=env"]) == ["HTTP_PROXY=p", "n=default", "t=outer", "v=given"]
    assert unused({"v": "x", "odd": "1", "no_proxy": ""}, stage.declared) == ["odd"]


def test_target_and_labels() -> None:
    text = "ARG q\nFROM x AS One\nRUN a\nFROM y\nRUN b"
    found = planned(text, target="ONE", labels={"z": "1", "a": "2 3"})
    assert [s.source for s in found.stages[-1].steps] == ["RUN a", "LABEL a=2 3", "LABEL z=1"]
    assert found.steps == 5
    with pytest.raises(InvalidSpec, match="failed to reach build target 0 in Dockerfile"):
        planned(text, target="0")


def test_changes_of_commit_and_import() -> None:
    config = changes.apply({"Env": ["E=1"], "WorkingDir": "/w"}, ["ENV x=$E", "WORKDIR rel", "cmd lower"])
    assert config == {
        "Env": ["E=1", "x=1"], "WorkingDir": "/w/rel", "Cmd": ["/bin/sh", "-c", "lower"],
    }  # fmt: skip
    for line, message in (
        ("RUN echo", "run is not a valid change command"),
        ("STOPSIGNAL 9", "stopsignal is not a valid change command"),
        ("FOO x", "foo is not a valid change command"),
        ("", "file with no instructions"),
        ("ENV a", "ENV must have two arguments"),
        ("EXPOSE 80/foo", "Invalid proto: foo"),
        ("USER", "USER requires exactly one argument"),
    ):
        with pytest.raises(InvalidSpec) as caught:
            changes.apply({}, [line])
        assert str(caught.value) == message


@pytest.mark.parametrize(("nanoseconds", "text"), [
    (0, "0s"), (60 * 10**9, "1m0s"), (3661 * 10**9, "1h1m1s"), (1_500_000, "1.5ms"), (1500, "1.5µs"), (7, "7ns"),
])  # fmt: skip
def test_durations_are_written_as_by_go(nanoseconds: int, text: str) -> None:
    assert gotext.duration_text(nanoseconds) == text
    assert gotext.duration(text) == nanoseconds


def test_texts_are_quoted_as_by_go() -> None:
    assert gotext.quoted('a"\\\n\x7f\u200bé\0') == '"a\\"\\\\\\n\\x7f\\u200bé\\x00"'
    assert gotext.quoted_rune(0x110000) == "'\ufffd'"
