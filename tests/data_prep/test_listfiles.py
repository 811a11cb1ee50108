from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.sources.listfiles import find_files, numbered_lines, refuse_doubles, safe_parts
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


def test_files_are_found_once_in_a_fixed_order_through_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b/2.mp4", "b/1.MP4", "a/3.mp4", "a/._3.mp4", "a/notes.txt", ".trash/4.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "5.mp4").touch()
    (root / "c").symlink_to(tmp_path / "disk")
    (root / "a" / "up").symlink_to(root)
    found = [path.relative_to(root).as_posix() for path in find_files(root, frozenset({".mp4"}))]
    assert found == ["a/3.mp4", "b/1.MP4", "b/2.mp4", "c/5.mp4"]
