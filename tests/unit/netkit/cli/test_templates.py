"""--format templates, tables, and sizes and times in words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.cli import human, table
from netkit.cli.goformat import render
from netkit.cli.gotemplate import TemplateError
from netkit.cli.references import full_name, split_tag, with_tag

VALUE = {
    "Name": "web", "On": True, "Off": False, "N": 3, "F": 1.5, "None": None, "L": ["a", "b"],
    "Labels": {"x.y": "z"}, "Deep": {"A": {"B": [{"C": "found"}]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Name}} and {{ .N }}", "web and 3"),
        ("{{json .}}", '{"Deep":{"A":{"B":[{"C":"found"}]}},"F":1.5,"L":["a","b"],'
         '"Labels":{"x.y":"z"},"N":3,"Name":"web","None":null,"Off":false,"On":true}'),
        ("{{.Deep.A.B}}", "[map[C:found]]"),
        ("{{(index .Deep.A.B 0).C}}", "found"),
        ("{{index .Labels \"x.y\"}}{{index .Labels \"none\"}}.", "z."),
        ("{{.Labels.none}} {{.None}}", "<no value> <no value>"),
        ("{{if .On}}yes{{else}}no{{end}}{{if .Off}}yes{{else}}no{{end}}", "yesno"),
        ("{{if .Off}}x{{else if eq .N 3}}three{{else}}y{{end}}", "three"),
        ('{{html "<a>"}} {{js "<a>"}} {{urlquery "a b"}} {{slice .Name 1}}',
         r"&lt;a&gt; \u003Ca\u003E a+b eb"),
        ("{{range .L}}[{{.}}]{{end}}", "[a][b]"),
        ("{{range $i, $e := .L}}{{$i}}={{$e}} {{$.Name}};{{end}}", "0=a web;1=b web;"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}}{{end}}", "x.y:z"),
        ("{{range .None}}x{{else}}empty{{end}}", "empty"),
        ("{{with .Deep.A}}{{len .B}}{{end}}", "1"),
        ("{{$x := .Name}}{{$x | upper | printf \"%-5s|\"}}", "WEB  |"),
        ("{{join .L \",\"}} {{split .Name \"e\"}} {{title .Name}}", "a,b [w b] Web"),
        ("{{pad .Name 1 2}}| {{truncate .Name 2}} {{len .Name}}", " web  | we 3"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* a comment */}}x{{println .N}}", "x3\n"),
        ("{{and .On .N}} {{or .Off .Name}} {{not .On}} {{gt .N 2}} {{ne .Name \"x\"}}",
         "3 web false true true"),
        ("{{printf \"%d-%q-%v-%%\" .N .Name .L}}", '3-"web"-[a b]-%'),
        ("{{print .N .F}} {{`raw \\n`}} {{\"a\\tb\"}}", "3 1.5 raw \\n a\tb"),
    ],
)  # fmt: skip
def test_templates(source: str, expected: str) -> None:
    assert render(source, VALUE) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.ID}} {{.Id}}", "7 7"),
        ("{{with .HostConfig}}{{.NanoCPUs}} {{.CPUShares}} {{.DNSOptions}}{{end}}", "1 2 [x]"),
        ("{{(index .Ports 0).HostIP}} {{.APIVersion}} {{.HTTPSProxy}}", "::1 1.51 p"),
        ("{{.Labels.Id}}{{.Labels.ID}}", "mine<no value>"),  # the user's keys are as they are
        ("{{.Both.ID}} {{.Both.Id}}", "go json"),
    ],
)
def test_fields_may_be_spelled_as_in_go(source: str, expected: str) -> None:
    found = {
        "Id": 7, "HostConfig": {"NanoCpus": 1, "CpuShares": 2, "DnsOptions": ["x"]},
        "Ports": [{"HostIp": "::1"}], "ApiVersion": "1.51", "HttpsProxy": "p",
        "Labels": {"Id": "mine"}, "Both": {"Id": "json", "ID": "go"}, "State": "up",
    }  # fmt: skip
    assert render(source, found) == expected
    for nothing in ("{{.STATE}}", "{{.id}}", "{{.APIversion}}"):
        with pytest.raises(TemplateError, match="no entry"):
            render(nothing, found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{", "unclosed action"),
        ("{{if .On}}x", "{{end}} is missing"),
        ("x{{end}}", "unexpected {{end}}"),
        ("{{.Nope}}", 'no entry for key "Nope"'),
        ("{{if .Nope}}x{{end}}", 'no entry for key "Nope"'),
        ("{{.None.Deeper}}", "nothing to have a field Deeper"),
        ('{{printf "%T" .Name}}', "%T is not supported"),
        ("{{slice .Name 9}}", "slice out of range"),
        ("{{.Name.Deeper}}", "can't evaluate field Deeper"),
        ("{{nofunction .Name}}", 'function "nofunction" not defined'),
        ('{{template "x"}}', "is not supported"),
        ("{{.Name .N}}", "only functions take arguments"),
        ("{{range .Name}}{{end}}", "can't iterate"),
        ("{{index .L 7}}", "index out of range"),
        ("{{$nope}}", "undefined variable"),
        ("{{.Name | }}", "missing value"),
        ("{{json (.Name}}", "unclosed parenthesis"),
        ("{{lt .Name .N}}", "error calling lt"),
    ],
)
def test_an_impossible_template_is_refused(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source, VALUE)
    assert message in str(caught.value)


@pytest.mark.slow
@given(st.text(alphabet='{}.|$()"ab 0-=:ifendrangelswth', max_size=40))
def test_any_text_is_a_template_or_an_error(source: str) -> None:
    with contextlib.suppress(TemplateError):
        render(source, VALUE)


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table.aligned("A\tLONGHEADER1\tC\na long cell 1\tb\tc") == (
        "A               LONGHEADER1   C\na long cell 1   b             c"
    )


@pytest.mark.slow
@given(st.lists(st.lists(st.text("abc", max_size=20), min_size=3, max_size=3), min_size=1))
def test_every_column_starts_at_one_place(rows: list[list[str]]) -> None:
    lines = table.aligned("\n".join("\t".join(row) for row in rows)).split("\n")
    at = 0
    for column in range(2):
        width = max(10, max(len(row[column]) for row in rows) + 3)
        for row, line in zip(rows, lines, strict=True):
            assert line[at : at + width] == row[column].ljust(width)[: len(line) - at]
        at += width


def test_colours_do_not_move_columns() -> None:
    plain = table.aligned("NAME\tSTATUS\tX\nweb\tUp 2 hours\ty")
    coloured = table.aligned("NAME\tSTATUS\tX\nweb\tUp 2 hours\ty", table.by_state)
    assert table.GREEN in coloured
    for code in (table.BOLD, table.GREEN, table.RESET):
        coloured = coloured.replace(code, "")
    assert coloured == plain


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_984_321, "1.98MB"), (123_456_789_012, "123GB")],
)
def test_sizes_in_words(amount: int, text: str) -> None:
    assert human.size(amount) == text


def test_long_texts_end_in_an_ellipsis_and_wide_letters_count_twice() -> None:
    assert human.ellipsis("abcdef", 6) == "abcdef"
    assert human.ellipsis("abcdefg", 6) == "abcde…"
    assert human.ellipsis("漢字漢字", 6) == "漢字…"


@pytest.mark.parametrize(
    ("given", "full", "tagged"),
    [
        ("busybox", "docker.io/library/busybox", "busybox:latest"),
        ("me/app", "docker.io/me/app", "me/app:latest"),
        ("localhost/app", "localhost/app", "localhost/app:latest"),
        ("r.example:5000/a/b", "r.example:5000/a/b", "r.example:5000/a/b:latest"),
    ],
)
def test_names_of_images(given: str, full: str, tagged: str) -> None:
    assert full_name(given) == full
    assert with_tag(given) == tagged
    assert split_tag(tagged) == (given, "latest")
