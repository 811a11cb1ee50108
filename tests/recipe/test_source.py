from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drcli.errors import RecipeError
from drcli.recipe.plain_yaml import compose, scalar
from drcli.recipe.source import parse_value, read_source

Refuse = Callable[..., str]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "x.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def message_of(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        read_source(path)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("3.", 3.0),
        ("-7", -7),
        ("010", 10),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("-.inf", -math.inf),
        *((text, text) for text in ("yes", "no", "on", "off", "y", "0o17", "0x1f", "1:30", "1_000", "2024-01-01")),
        *((text, text) for text in ("e5", ".", "1.2.3", "nan", "none", "=", "tRUE")),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_not_a_number_is_read_as_such_and_thousands_of_digits_as_infinite() -> None:
    assert math.isnan(scalar(".nan"))
    assert scalar("9" * 5000) == math.inf


def test_quotes_make_text_of_anything(file: Callable[..., Path]) -> None:
    source = read_source(file("a: '1'\nb: \"true\"\nc: |\n  2\n"))
    assert source.data == {"a": "1", "b": "true", "c": "2\n"}


def test_every_value_has_its_line(file: Callable[..., Path]) -> None:
    source = read_source(file("# head\na:\n  b: 1\n  c:\n    - 2\n    - {d: 3}\n'e.f': [4,\n 5]\n"))
    assert source.data == {"a": {"b": 1, "c": [2, {"d": 3}]}, "e.f": [4, 5]}
    assert source.places == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("a", "c", 1, "d"): 6,
        ("e.f",): 7,
        ("e.f", 0): 7,
        ("e.f", 1): 8,
    }


def test_an_alias_stands_for_a_copy_of_its_value(file: Callable[..., Path]) -> None:
    data = read_source(file("a: &x {b: [1]}\nc: *x\n")).data
    assert data == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert data["a"] is not data["c"]


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.yaml, line 1: must be a mapping, such as {key: value}; it is empty"),
        ("# only a comment\n", "x.yaml, line 1: must be a mapping, such as {key: value}; it is empty"),
        ("\n- 1\n- 2\n", "x.yaml, line 2: must be a mapping, such as {key: value}; it is [1, 2]"),
        (
            "a: 1\nb: !!python/name:os.system ''\n",
            ("x.yaml, line 2: the tag tag:yaml.org,2002:python/name:os.system is refused; write plain values"),
        ),
        (
            "a: !!int '5'\n",
            "x.yaml, line 1: the tag tag:yaml.org,2002:int is refused; write plain values",
        ),
        ("a: 1\n---\nb: 2\n", "x.yaml, line 2: a second document begins here; write one"),
        ("a: 1\nb: [1, 2\n", "x.yaml, line 3: not valid YAML: did not find expected ',' or ']'"),
        ("a: *b\n", "x.yaml, line 1: not valid YAML: found undefined alias 'b'"),
        ("a: {b: &x [*x]}\n", "x.yaml, line 1: an alias (*) is inside the value it refers to"),
        (BOMB, "x.yaml, line 1: more than 10000 values once its aliases are expanded"),
        ("a: [" + "1," * 30000 + "]", "x.yaml, line 1: more than 10000 values"),
        ("a: " + "[" * 100_000, "x.yaml, line 1: nested more than 32 levels deep"),
        ('a: "\\UFFFFFFFF"\n', "x.yaml, line 1: not valid YAML: found invalid Unicode character escape code"),
        ("a: \x07\n", "x.yaml: not valid YAML: a character that text cannot hold"),
        (b"\x80\x04\x95\x00\x00", "x.yaml: binary content; a recipe is YAML text in UTF-8"),
        ("a: 1\n".encode("utf-16"), "x.yaml: binary content; a recipe is YAML text in UTF-8"),
        (b"a: 1\nb: \xe9\n", "x.yaml, line 2: not UTF-8 text; save the recipe as UTF-8"),
        (b"#" * 1_000_001, "x.yaml: larger than 1 MB; a recipe is a short YAML text"),
    ],
    ids=range(18),
)
def test_a_file_that_is_no_recipe_is_one_clear_error(
    file: Callable[..., Path], content: str | bytes, message: str
) -> None:
    assert message_of(file(content)) == message


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    assert message_of(tmp_path / "none.yaml") == "none.yaml: cannot be read: No such file or directory"
    assert message_of(tmp_path) == f"{tmp_path}: cannot be read: Is a directory".replace(f"{tmp_path.parent}/", "")


def test_a_byte_order_mark_is_no_part_of_the_text(file: Callable[..., Path]) -> None:
    assert read_source(file(b"\xef\xbb\xbfa: 1\n")).data == {"a": 1}


def test_keys_given_twice_or_no_text_are_reported_with_the_other_problems(refused: Refuse, valid: str) -> None:
    text = valid + "  epochs: 5\n  1: x\n  <<: {a: 1}\n  [a, b]: 1\n  on: 1\n"
    assert refused(text) == (
        "some.yaml: 5 problems\n"
        "  line 14  training.epochs   given twice, first on line 12\n"
        "  line 15  training   a key must be a string; quote it: '1'\n"
        "  line 16  training   merge keys (<<) are not supported; write the keys out\n"
        "  line 17  training   a key must be a string, not a list or a mapping\n"
        "  line 18  training.on = 1   unknown key; known: optimizer, schedule, epochs, batch_size, "
        "eval_batch_size, accumulate, precision, channels_last, compile, fused, data, pairs, clip_grad_norm, "
        "rates, ema, deterministic."
    )


def test_escaped_control_characters_are_refused(refused: Refuse, valid: str) -> None:
    assert refused(valid + 'name: "a\\0\\x9F"\n') == (
        "some.yaml: 1 problem\n  line 14  name   must not hold control characters: 'a\\x00\\x9f'"
    )


def test_a_value_on_one_line_may_be_a_list_or_a_block() -> None:
    assert parse_value("[0, {a: 1e1}]") == [0, {"a": 10.0}]
    assert parse_value("") is None
    assert compose("").value == ""


@given(st.binary(max_size=200) | st.text(alphabet="{}[]&*!|>-?:,#'\"\n a1~<=%@`\\", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with contextlib.suppress(RecipeError):
        assert isinstance(read_source(path).data, dict)
