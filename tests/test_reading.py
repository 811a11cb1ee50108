"""The bounded readers of JSON and YAML: right values, and one message for every file that is none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drcli import reading
from drcli.errors import DataError, DrcliError, RecipeError, RunError
from drcli.files import append_json_line, write_json
from drcli.reading import ContentsError, parse_json, printable, read_json, read_json_lines, read_json_object
from drcli.recipe.plain_yaml import parse_yaml, read_yaml


def message(call: Callable[..., Any], *args: object, kind: type[DrcliError] = DataError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*args, remedy="restore it", **options)
    return str(caught.value)


def test_json_and_yaml_of_a_file_are_its_plain_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": [1, 2.5, null, true, "\\u00e9\\n"], "b": {"c": -1}}')
    expected = {"a": [1, 2.5, None, True, "é\n"], "b": {"c": -1}}
    assert read_json(path, remedy="-") == read_json_object(path, remedy="-") == read_yaml(path, remedy="-") == expected
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read_json(path, remedy="-") == {"a": 1}


def test_yaml_is_that_of_recipes() -> None:
    """Core schema of YAML 1.2: 1e-4 is a number, on and 1_0 are text."""
    assert parse_yaml("a: 1e-4\nb: on\nc: 1_0\nd: [~, .inf]\n") == {
        "a": 0.0001,
        "b": "on",
        "c": "1_0",
        "d": [None, float("inf")],
    }


LEVELS = 33

JSON: list[tuple[str, str]] = [
    ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
    ('{"a": 1', "not JSON: Expecting ',' delimiter: line 1 column 8 (char 7)"),
    ("[" * 100_000, "nested more than 32 levels deep"),
    ("[" * LEVELS + "]" * LEVELS, "nested more than 32 levels deep"),
    ('{"a":' * LEVELS + "1" + "}" * LEVELS, "nested more than 32 levels deep"),
    ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
    ('["\\u001b[31m"]', "control characters in '\\x1b[31m'"),
    ('["\\ud800"]', "control characters in '\\ud800'"),
    ('["\x9f"]', "control characters in '\\x9f'"),
    ('{"\\u0000": 1}', "control characters in '\\x00'"),
    ('{"a": [18446744073709551616]}', "a whole number beyond 64 bits"),
    ("[" + "1," * 2_000_000 + "1]", "more than 2000000 values"),
]


@pytest.mark.parametrize(("text", "why"), JSON, ids=range(len(JSON)))
def test_json_that_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    assert message(read_json, path) == f"{path}: damaged ({why}); restore it"


def test_whole_numbers_have_thousands_of_digits_in_no_file(tmp_path: Path) -> None:
    with pytest.raises(ContentsError, match="not JSON: Exceeds the limit"):
        parse_json("9" * 5000)


def test_json_within_the_limits_is_accepted() -> None:
    levels = LEVELS - 1
    assert json.dumps(parse_json("[" * levels + "]" * levels)) == "[" * levels + "]" * levels
    assert parse_json('["\\ud83d\\ude00 \\\\b \\u00e9", 18446744073709551615]') == ["\U0001f600 \\b é", 2**64 - 1]


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [[*a{i - 1}]]\n" for i in range(1, 20))

YAML: list[tuple[str, str]] = [
    ("- " * 50_000, "line 1: nested more than 32 levels deep"),
    ("? " * 50_000, "line 1: nested more than 32 levels deep"),
    ("[" * 100_000, "line 1: nested more than 32 levels deep"),
    ("{a: " * 100_000, "line 1: nested more than 32 levels deep"),
    (BOMB, "line 1: more than 10000 values once its aliases are expanded"),
    (CHAIN, "line 2: nested more than 32 levels deep once its aliases are expanded"),
    ("a: &x [*x]", "line 1: an alias (*) is inside the value it refers to"),
    ("a: 1\nb: 2\na: 3\n", "line 3: given twice, first on line 1"),
    ("1: a", "line 1: a key must be a string; quote it: '1'"),
    ("a: !!python/name:os.system x", "line 1: the tag tag:yaml.org,2002:python/name:os.system is refused; "),
    ("a: '\x1b'", "not valid YAML: a character that text cannot hold"),
    ('a: "\\x1b"', "control characters in '\\x1b'"),
    ("a: [1", "line 2: not valid YAML: did not find expected ',' or ']'"),
    ("a: 1\n---\nb: 1", "line 2: a second document begins here; write one"),
    ("a: 18446744073709551616", "a whole number beyond 64 bits"),
]


@pytest.mark.parametrize(("text", "why"), YAML, ids=range(len(YAML)))
def test_yaml_that_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    said = message(read_yaml, path, kind=RecipeError, error=RecipeError)
    assert said.startswith(f"{path}: damaged ({why}")
    assert said.endswith("; restore it")


@pytest.mark.parametrize("read", [read_json, read_json_lines, read_yaml])
def test_what_is_no_regular_file_is_refused_without_waiting(read: Callable[..., Any], tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, Path("/dev/zero"), Path("/dev/stdin")):
        said = message(read, path)
        assert said in {
            f"{path}: cannot be read ({why}); restore it" for why in ("not a regular file", "Is a directory")
        }
    assert message(read, tmp_path) == f"{tmp_path}: cannot be read (Is a directory); restore it"
    assert message(read, tmp_path / ("x" * 300)).endswith("cannot be read (File name too long); restore it")
    assert message(read, tmp_path / "a\0b").endswith("cannot be read (Invalid argument); restore it")


def test_a_missing_file_is_an_error_and_a_missing_log_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert message(read_json, path) == f"{path}: cannot be read (No such file or directory); restore it"
    assert read_json_lines(path, remedy="-") == []


def test_a_larger_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(10**12)
    assert message(read_json, path) == f"{path}: larger than 64 MB; restore it"
    assert message(read_yaml, path) == f"{path}: larger than 1 MB; restore it"
    assert message(read_json, path, limit=10**4) == f"{path}: larger than 0.01 MB; restore it"


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"a":\n"\xe9"}')
    assert message(read_json, path) == f"{path}, line 2: not UTF-8 text; restore it"


def test_a_line_of_a_log_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 0}\n[1]\n{"ep')
    said = message(read_json_lines, path, kind=RunError, error=RunError)
    assert said == f"{path}: damaged (line 2: not a JSON object); restore it"


def test_a_list_where_an_object_belongs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[]")
    assert message(read_json_object, path) == f"{path}: damaged (not a JSON object); restore it"


def test_files_that_drcli_wrote_are_read_whatever_the_command_line_held(tmp_path: Path) -> None:
    path, command = tmp_path / "a", ["train", os.fsdecode(b"out/\xff"), "\x1b[31m\n", "\U0001f600"]
    shown = ["train", "out/\\udcff", "\\x1b[31m\n", "\U0001f600"]
    write_json(path, {"command": command, "n": 1})
    assert read_json(path, remedy="-") == {"command": shown, "n": 1}
    path.unlink()
    append_json_line(path, {"command": command})
    assert read_json_lines(path, remedy="-") == [{"command": shown}]


def test_printable_text_stays_as_it_is() -> None:
    assert printable("a\tb\né \U0001f600") == "a\tb\né \U0001f600"
    assert printable("\x00\x7f\ud800") == "\\x00\\x7f\\ud800"


def test_the_limits_are_far_above_what_drcli_writes() -> None:
    assert reading.MAX_DEPTH == 32
    assert reading.MAX_BYTES == 64_000_000
