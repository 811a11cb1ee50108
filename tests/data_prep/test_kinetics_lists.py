from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.sources.kinetics_files import OtherTime, best_file, find_clips, match_clips, other_time_lines
from data_prep.sources.kinetics_lists import CLASSES, Listed, parse_clip, read_annotations, read_json, read_list
from data_prep.sources.kinetics_splits import list_files, read_splits
from drcli.errors import DataError

HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"
Make = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Make:
    def make(text: str, name: str = "train.csv") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    return make


def test_the_classes_are_31_in_alphabetical_order() -> None:
    assert len(CLASSES) == 31
    assert sorted(CLASSES) == list(CLASSES)
    assert [CLASSES[index] for index in (0, 4, 10, 30)] == [
        "blowing nose",
        "dribbling basketball",
        "playing clarinet",
        "tickling",
    ]


@pytest.mark.parametrize(
    ("stem", "clip"),
    [
        ("_dbcJuKJQNs_000040_000050", ("_dbcJuKJQNs", 40)),
        ("--4-0ihtnBU_000058_000068", ("--4-0ihtnBU", 58)),
        ("a_b_c_d_e_f_001234_001244", ("a_b_c_d_e_f", 1234)),
        ("-3Mwkq-7TV4_2", ("-3Mwkq-7TV4", 2)),
        ("-3Mwkq-7TV4", ("-3Mwkq-7TV4", None)),
        ("-3Mwkq-7TV", None),
        ("-3Mwkq-7TV4.f137", None),
        ("überüberübe_000001_000011", None),
    ],
)
def test_ids_are_counted_off_not_split_off(stem: str, clip: tuple[str, int | None] | None) -> None:
    assert parse_clip(stem) == clip


def test_annotations_give_the_rows_of_the_classes(write: Make) -> None:
    path = write(
        "\ufeff" + HEADER.replace("\n", "\r\n") + '"tap dancing",_dbcJuKJQNs,40,50,train,0\r\n'
        "abseiling,--abseiling,1,11,train,0\r\nbowling,--4-0ihtnBU,58,68,train,0"
    )
    clips = read_annotations(path, "train", CLASSES)
    assert clips == [
        Listed("_dbcJuKJQNs", 40, "tap dancing", f"{path}:2"),
        Listed("--4-0ihtnBU", 58, "bowling", f"{path}:4"),
    ]


def test_validate_is_another_word_for_val(write: Make) -> None:
    path = write("label,youtube_id,split\nbowling,--4-0ihtnBU,validate\n")
    assert read_annotations(path, "val", CLASSES)[0].start is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,id\nbowling,--4-0ihtnBU\n", r"train.csv: has no column youtube_id \(its header is 'label, id'\)"),
        ("", "train.csv: has no column youtube_id"),
        (HEADER.replace("time_start", "ime_start"), "train.csv: has no column time_start .its header is 'label, you"),
        ("youtube_id,time_start\n--4-0ihtnBU,2\n", "train.csv:2: no label.*dataset.prepare.lists_dir"),
        (HEADER + ",--4-0ihtnBU,58,68,train,0\n", "train.csv:2: no label"),
        (HEADER + "bowling,../../passwd,5,6,train,0\n", "train.csv:2: youtube_id '../../passwd' is not an id"),
        (HEADER + "bowling,#NAME?,5,6,train,0\n", "train.csv:2: youtube_id '#NAME.' is not an id of 11 char"),
        (HEADER + "bowling,--4-0ihtnBU_1,5,6,train,0\n", "train.csv:2: youtube_id '--4-0ihtnBU_1' is not an id"),
        (HEADER + "bowling,--4-0ihtnBU,5,6,test,0\n", "train.csv:2: split is 'test' in the file of train"),
        (
            HEADER + "bowling,--4-0ihtnBU,soon,6,train,0\n",
            "train.csv:2: time_start 'soon' is not a whole number of seconds",
        ),
        (HEADER + f"bowling,{'x' * 200_000},5,6,train,0\n", "train.csv:2: is not a line of CSV"),
        (
            HEADER + '"bowling,--4-0ihtnBU,5,6,train,0\n',
            r"train.csv:2: is not a line of CSV \(unexpected end of data\)",
        ),
        (HEADER + "bowling,--4-0ihtnBU,-5,6,train,0\n", "train.csv:2: time_start '-5' is not a whole number"),
        (HEADER + "bowling,--4-0ihtnBU,1_0,6,train,0\n", "train.csv:2: time_start '1_0' is not a whole number"),
        (HEADER + "bowling,--4-0ihtnBU\n", "train.csv:2: has not one field for each column of the header"),
        (HEADER + "bowling,--4-0ihtnBU,5,6,train,0,1\n", "train.csv:2: has not one field for each column"),
        ("label,youtube_id,label\nbowling,--4-0ihtnBU,bowling\n", "train.csv:2: has not one field for each column"),
        (HEADER + "bowling,--4-0ihtnBU\0,5,6,train,0\n", r"train.csv:2: holds the control character '\\x00'"),
        (HEADER + "bowling,--4-0ihtnBU,inf,6,train,0\n", "train.csv:2: time_start 'inf' is not a whole number"),
    ],
)
def test_a_wrong_annotation_is_refused_with_its_line(write: Make, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_annotations(write(text), "train", CLASSES)


@pytest.mark.parametrize(
    ("line", "clip"),
    [
        ("--4-0ihtnBU_000058_000068,10,4", ("--4-0ihtnBU", 58, "dribbling basketball")),
        ("-3Mwkq-7TV4_2,10,23", ("-3Mwkq-7TV4", 2, "shoveling snow")),
        ("videos/train/-3Mwkq-7TV4_000002_000012.mp4 10 tap_dancing", ("-3Mwkq-7TV4", 2, "tap dancing")),
        ("-3Mwkq-7TV4,playing bass guitar", ("-3Mwkq-7TV4", None, "playing bass guitar")),
    ],
)
@pytest.mark.parametrize("before", ["", "name,length,class_id\r\n"])
def test_a_list_names_the_clip_first_and_the_class_last(
    write: Make, line: str, clip: tuple[str, int | None, str], before: str
) -> None:
    path = write(before + line + "\r\n", "my_train.txt")
    assert read_list(path, ()) == [Listed(*clip, f"{path}:{1 + bool(before)}")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../-3Mwkq-7TV4_2,10,23", r"my_test.txt:2: '../-3Mwkq-7TV4_2' is not the relative path of a clip"),
        ("/data/-3Mwkq-7TV4_2,10,23", "my_test.txt:2: '/data/-3Mwkq-7TV4_2' is not the relative path"),
        ("-3Mwkq-7TV4_2,10,31", "my_test.txt:2: label '31' is neither a class nor an index from 0 to 30"),
        ("-3Mwkq-7TV4_2,10,-1", "my_test.txt:2: label '-1' is neither"),
        ("-3Mwkq-7TV4_2,10,strumming_guitar", "my_test.txt:2: label 'strumming_guitar' is neither"),
        pytest.param("-3Mwkq-7TV4_2,10," + "9" * 5000, r"my_test.txt:2: label '9+\.\.\.' is neither", id="long label"),
        pytest.param("-3Mwkq-7TV4_" + "9" * 5000 + ",10,3", "does not begin with a YouTube id", id="long start"),
        ("-3Mwkq-7TV4_2,10,", "my_test.txt:2: label '' is neither"),
        ("-3Mwkq-7TV4_2", "my_test.txt:2: '-3Mwkq-7TV4_2' has no label; expected <clip>,10,<class index>"),
        ("clip,10,3", "my_test.txt:2: 'clip' does not begin with a YouTube id of 11 characters"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(write: Make, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_list(write(f"--4-0ihtnBU_000058_000068,10,4\n{line}\n", "my_test.txt"), ())


def test_a_class_beyond_the_31_may_be_asked_for(write: Make) -> None:
    path = write("-3Mwkq-7TV4_2,10,strumming_guitar\n", "my_test.txt")
    assert read_list(path, ("strumming guitar",))[0].label == "strumming guitar"


def database(**subsets: str) -> str:
    clips = {f"{name:_<11}_000001_000011": {"subset": s, "label": "tap_dancing"} for name, s in subsets.items()}
    return json.dumps({"labels": ["tap_dancing"], "database": clips})


def test_the_json_gives_all_three_splits(write: Make) -> None:
    path = write(database(a="training", b="validation", c="testing"), "KS_train_val.json")
    splits = read_json(path, ())
    assert {split: [clip.video for clip in clips] for split, clips in splits.items()} == {
        "train": ["a" + 10 * "_"],
        "val": ["b" + 10 * "_"],
        "test": ["c" + 10 * "_"],
    }
    assert splits["train"][0].label == "tap dancing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "KS.json: is not the JSON of a clip database"),
        ("[1]", "KS.json: is not the JSON of a clip database"),
        ('{"database": {"a": 3}}', "KS.json: is not the JSON of a clip database"),
        (database(a="trainig"), "KS.json: a___________000001_000011: subset is 'trainig'; expected one of training"),
        (
            '{"database": {"x": {"subset": "testing", "label": "0"}, "x": {"subset": "testing", "label": "0"}}}',
            "the key 'x' is given twice",
        ),
    ],
)
def test_a_wrong_json_is_refused(write: Make, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_json(write(text, "KS.json"), ())


def annotate(write: Make, folder: str = "annotations") -> None:
    for split, names in {"train": "ab", "val": "c", "test": "d"}.items():
        rows = "".join(f"bowling,{name * 11},1,11,{split},0\n" for name in reversed(names))
        write(HEADER + rows, f"{folder}/{split}.csv")


def found(splits: dict[str, list[Listed]]) -> dict[str, str]:
    return {split: "".join(clip.video[0] for clip in clips) for split, clips in splits.items()}


@pytest.mark.parametrize("folder", ["annotations", ".", "k400/annotations"])
def test_without_lists_the_official_splits_are_taken(write: Make, tmp_path: Path, folder: str) -> None:
    annotate(write, folder)
    assert found(read_splits(tmp_path, None, CLASSES)) == {"train": "ab", "val": "c", "test": "d"}


def test_lists_without_a_validation_part_take_that_of_kinetics(write: Make, tmp_path: Path) -> None:
    annotate(write)
    write("eeeeeeeeeee_000001_000011,10,0\n", "lists/my_train.txt")
    write("fffffffffff_1,10,0\n", "lists/my_test.txt")
    assert found(read_splits(tmp_path, tmp_path / "lists", CLASSES)) == {"train": "e", "val": "c", "test": "f"}
    write(database(g="validation", a="training"), "lists/KS.json")
    assert found(read_splits(tmp_path, tmp_path / "lists", CLASSES)) == {"train": "e", "val": "g", "test": "f"}


def test_the_json_alone_is_enough(write: Make, tmp_path: Path) -> None:
    write(database(a="training", b="validation", c="testing"), "KS_train_val.json")
    assert found(read_splits(tmp_path, tmp_path, CLASSES)) == {"train": "a", "val": "b", "test": "c"}


def test_other_classes_are_left_out(write: Make, tmp_path: Path) -> None:
    write(database(a="training", b="validation", c="testing"), "KS_train_val.json")
    assert found(read_splits(tmp_path, tmp_path, ("bowling",))) == {"train": "", "val": "", "test": ""}


def test_missing_lists_are_named_with_the_remedy(write: Make, tmp_path: Path) -> None:
    annotate(write)
    (tmp_path / "annotations" / "val.csv").unlink()
    with pytest.raises(DataError, match=r"val.csv or validate.csv is missing.*dataset.prepare.lists_dir"):
        read_splits(tmp_path, None, CLASSES)
    with pytest.raises(DataError, match=r"holds neither my_train.txt and my_test.txt nor KS_train_val.json"):
        read_splits(tmp_path, tmp_path, CLASSES)
    path = write(database(a="training", b="validation"), "KS.json")
    with pytest.raises(DataError, match=rf"{path}: lists no clip of test; KS_train_val.json has all three"):
        read_splits(tmp_path, tmp_path, CLASSES)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_clip_listed_twice_is_refused_with_both_places(write: Make, tmp_path: Path, split: str) -> None:
    annotate(write)
    with (tmp_path / "annotations" / f"{split}.csv").open("a") as stream:
        stream.write(f"bowling,{'a' * 11},31,41,{split},0\n")
    with pytest.raises(DataError, match=rf"{split}.csv:[34]: clip a{{11}} is listed before, at .*train.csv:3"):
        read_splits(tmp_path, None, CLASSES)


def test_lists_without_a_validation_part_and_without_kinetics_ask_for_one(write: Make, tmp_path: Path) -> None:
    write("eeeeeeeeeee_000001_000011,10,0\n", "lists/my_train.txt")
    write("fffffffffff_1,10,0\n", "lists/my_test.txt")
    write(HEADER, "annotations/other.csv")
    with pytest.raises(
        DataError,
        match=r"lists: has no list of the validation part; add my_val.txt or KS_train_val.json there, or "
        r"Kinetics-400's val.csv to .* \(there: other.csv\)",
    ) as caught:
        read_splits(tmp_path, tmp_path / "lists", CLASSES)
    assert "lists_dir" not in str(caught.value)


@pytest.mark.parametrize("name", ["kinetics-400_{}.csv", "kinetics400-{}.CSV", "K400.{}.csv", "Kinetics_{}.csv"])
def test_annotation_files_are_found_under_longer_names(write: Make, tmp_path: Path, name: str) -> None:
    annotate(write)
    for split, spelt in {"train": "train", "val": "validate", "test": "test"}.items():
        path = tmp_path / "annotations" / f"{split}.csv"
        path.rename(path.with_name(name.format(spelt)))
    assert found(read_splits(tmp_path, None, CLASSES)) == {"train": "ab", "val": "c", "test": "d"}
    assert [path.name for path in list_files(tmp_path, None)] == [
        name.format(spelt) for spelt in ("train", "validate", "test")
    ]


def test_two_annotation_files_of_a_part_are_refused(write: Make, tmp_path: Path) -> None:
    annotate(write)
    path = tmp_path / "annotations" / "val.csv"
    path.rename(path.with_name("kinetics-400_val.csv"))
    write(HEADER, "annotations/kinetics-600_val.csv")
    with pytest.raises(DataError, match=r"-400_val.csv and kinetics-600_val.csv: .* rename the right one to val.csv"):
        read_splits(tmp_path, None, CLASSES)


def test_the_csv_files_that_are_there_instead_are_named(write: Make, tmp_path: Path) -> None:
    write(HEADER, "annotations/kinetics_trainlist.csv")
    with pytest.raises(DataError, match=r"train.csv is missing, .* \(there: kinetics_trainlist.csv\); get"):
        read_splits(tmp_path, None, CLASSES)


def clip_file(folder: Path, start: int | None, below: str = ".") -> Path:
    path = folder / below / f"-abcdefghij{'' if start is None else f'_{start:06d}_{start + 10:06d}'}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def listed(start: int | None) -> Listed:
    return Listed("-abcdefghij", start, "bowling", "my_train.txt:7")


def test_only_a_file_of_the_listed_seconds_is_taken(tmp_path: Path) -> None:
    files = {start: clip_file(tmp_path, start) for start in (5, 58, 150)}
    (tmp_path / "-abcdefghij.mp4.part").touch()
    (tmp_path / "._-abcdefghij_000010_000020.mp4").touch()
    paths = find_clips(tmp_path)["-abcdefghij"]
    assert len(paths) == 3
    assert best_file(paths, listed(58)) == files[58]
    assert best_file([files[150]], listed(10)) == OtherTime(listed(10), [150])
    assert str(best_file([files[150]], listed(10))) == "-abcdefghij: there, from 150 s; the list says 10 s"
    assert str(best_file(paths, listed(None))) == (
        "-abcdefghij: there, from 5 s and from 58 s and from 150 s; the list names no time"
    )
    assert best_file([files[5]], listed(None)) == files[5]
    assert best_file([], listed(5)) is None


def test_a_file_that_states_no_start_is_taken_after_one_that_does(tmp_path: Path) -> None:
    bare, exact = clip_file(tmp_path, None), clip_file(tmp_path, 6, "deep/er")
    assert best_file([bare], listed(6)) == bare
    assert best_file([bare, exact], listed(6)) == exact


def test_clips_at_another_time_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    clips = [Listed(f"-abcdefgh{number:02d}", 10, "bowling", f"x:{number}") for number in range(7)]
    files = {clip.video: [Path(f"{clip.video}_000150_000160.mp4")] for clip in clips}
    files[clips[0].video] = [Path(f"{clips[0].video}_000010_000020.mp4")]
    matches, others = match_clips(clips, files)
    assert matches == {clips[0].video: files[clips[0].video][0]}
    (line,) = other_time_lines(others)
    assert line.startswith("6 listed clips count as missing, since the download has other seconds of their videos: ")
    assert "-abcdefgh01: there, from 150 s; the list says 10 s (x:1); " in line
    assert line.endswith("; and 1 more")
    assert other_time_lines([]) == []


def test_a_suffix_in_capitals_is_no_part_of_the_name(write: Make, tmp_path: Path) -> None:
    path = write("train/-abcdefghij_000006_000016.MP4,10,2\n", "my_train.txt")
    assert read_list(path, ()) == [Listed("-abcdefghij", 6, "bowling", f"{path}:1")]
    assert find_clips(clip_file(tmp_path, 6).rename(tmp_path / "-abcdefghij_000006_000016.MP4").parent) == {
        "-abcdefghij": [tmp_path / "-abcdefghij_000006_000016.MP4"]
    }


def test_the_genuine_annotations_of_kinetics_400_are_found_and_read(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "kinetics"
    (source / "annotations").mkdir(parents=True)
    for split in ("val", "test"):
        name = f"kinetics-400_{split}.csv"
        (source / "annotations" / name).symlink_to(shared / "data/kinetics/annotations_activitynet" / name)
    path = source / "annotations" / "kinetics-400_val.csv"
    assert path in list_files(source, None)
    assert len(read_annotations(path, "val", CLASSES)) == 1544
    with pytest.raises(DataError, match=r"kinetics-400_test.csv:2: no label, as in some copies"):
        read_annotations(path.with_name("kinetics-400_test.csv"), "test", CLASSES)
