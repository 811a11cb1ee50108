from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.sources.listfiles import numbered_lines, read_text, refuse_doubles, safe_parts
from drcli.errors import DataError


def test_byte_order_marks_line_ends_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\n\r\n  \xc3\xa9t\xc3\xa9 \nlast")
    assert numbered_lines(path) == [(f"{path}:1", "a b"), (f"{path}:3", "été"), (f"{path}:4", "last")]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00", "list.txt: is not UTF-8 text"), (None, r"list.txt: cannot be read \(No such file")],
)
def test_an_unreadable_list_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        numbered_lines(path)


@pytest.mark.parametrize("name", ["../a.mp4", "a/../../b.mp4", "/etc/passwd", "a\\b", "", "a\x00b", "a\tb"])
def test_a_name_that_leaves_its_folder_is_refused_with_its_line(name: str) -> None:
    with pytest.raises(DataError, match=r"list.txt:7: .* is not the relative path of a clip"):
        safe_parts(name, "list.txt:7")


def test_names_in_other_scripts_are_fine() -> None:
    assert safe_parts("./Ordner/überraschung.mp4", "list.txt:1") == ("Ordner", "überraschung.mp4")


def test_a_doubled_clip_is_refused_with_both_places() -> None:
    refuse_doubles([("a", "x:1"), ("b", "x:2")])
    with pytest.raises(DataError, match="y:3: clip a is listed before, at x:1; keep one of the lines"):
        refuse_doubles([("a", "x:1"), ("b", "x:2"), ("a", "y:3")])


@pytest.mark.parametrize("mark", ["\0", "\x1c", "\x0b", "\x7f", "\x85", "\u2028"])
def test_a_control_character_is_refused_with_its_line(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"a\r\nb{mark}c\n".encode())
    with pytest.raises(DataError, match=r"list.txt:2: holds the control character '\\[xu]") as caught:
        numbered_lines(path)
    assert str(caught.value).isprintable()


def test_a_very_long_line_is_refused_with_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\n" + "b" * 10_001)
    with pytest.raises(DataError, match=r"list.txt:2: has 10,001 characters, more than 10,000"):
        numbered_lines(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with path.open("wb") as stream:
        stream.truncate(257 * 10**6)  # sparse: no bytes are written
    with pytest.raises(DataError, match=r"list.txt: has 257.0 MB, more than the 256.0 MB that such a file may have"):
        read_text(path)


def test_line_ends_of_all_systems_count_lines_alike(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"a\rb\r\n\r\nc\nd")
    assert [where.rsplit(":")[-1] for where, _ in numbered_lines(path)] == ["1", "2", "4", "5"]
