from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mosi_tree as tree

from data_prep.cmu_mosi import CmuMosi, class_of
from data_prep.job import ignore
from data_prep.sources.mosi_files import FILES
from data_prep.sources.mosi_folds import FOLDS, fold_of
from drcli.data.format import DatasetInfo, read_info
from drcli.errors import DataError

FOLD_OF = {"train": "train", "val": "valid", "test": "test"}
STREAMS = {"text": "text", "audio": "audio", "visual": "vision"}

TABLES: dict[str, Callable[[], tree.Table]] = {
    "mosi_data.pkl": lambda: tree.cmu_table(tree.ALIGNED),
    "mosi_data_noalign.pkl": lambda: tree.cmu_table(tree.UNALIGNED),
    "mosi_raw.pkl": tree.raw_table,
    "aligned_50.pkl": lambda: tree.mmsa_table(tree.ALIGNED),
    "unaligned_50.pkl": lambda: tree.mmsa_table(tree.UNALIGNED),
}


def prepare(source: Path, out: Path, *, limit: int | None = None, warn: Any = ignore, **settings: Any) -> DatasetInfo:
    chosen = CmuMosi.Settings.model_validate(settings)
    return CmuMosi(chosen).run(source=source, out=out, limit=limit, warn=warn)


def written(folder: Path, table: tree.Table, name: str = "mosi_data.pkl") -> Path:
    tree.write_pickle(folder / "download" / name, table)
    return folder / "download"


def stored(out: Path, split: str, modality: str) -> tuple[np.ndarray, np.ndarray]:
    return np.load(out / split / f"{modality}.npy"), np.load(out / split / f"{modality}_lengths.npy")


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def without_padding(name: str, entry: dict[str, Any], key: str, row: int) -> np.ndarray:
    """A row's valid steps, found otherwise than by the reader."""
    steps: np.ndarray = entry[key][row]
    if name in {"aligned_50.pkl", "unaligned_50.pkl"}:
        count = int(entry["text_bert"][row, 1].sum()) if key == "text" else int(steps.any(axis=1).sum())
        return steps[:count]
    return np.stack([step for step in steps if step.any()])


@pytest.mark.parametrize("name", TABLES)
def test_every_pickle_gives_its_sequences_with_padding_at_the_end(tmp_path: Path, name: str) -> None:
    table = TABLES[name]()
    info = prepare(written(tmp_path, table, name), tmp_path / "out")
    assert info.rows == info.samples == {"train": 24, "val": 12, "test": 12}
    assert info.classes == ("negative", "non-negative")
    assert info.source["files"] == {"pickle": name}
    assert info.source["aligned"] == ("noalign" not in name and "unaligned" not in name)
    for split, fold in FOLD_OF.items():
        for m, key in STREAMS.items():
            array, lengths = stored(tmp_path / "out", split, m)
            assert (array.dtype, lengths.dtype) == (np.dtype(np.float32), np.dtype(np.int64))
            assert info.modalities[m].shape == array.shape[1:] == table[fold][key].shape[1:]
            for row, length in enumerate(lengths):
                expected = without_padding(name, table[fold], key, row)
                np.testing.assert_array_equal(array[row, :length], expected.astype(np.float32))
                assert not array[row, length:].any()
        values = np.array(table[fold].get("labels", table[fold].get("regression_labels"))).reshape(-1)
        assert np.load(tmp_path / "out" / split / "labels.npy").tolist() == (values >= 0).tolist()


def test_statistics_are_those_of_the_valid_steps_by_dimension(tmp_path: Path) -> None:
    info = prepare(written(tmp_path, tree.cmu_table(tree.UNALIGNED)), tmp_path / "out")
    for m in STREAMS:
        array, lengths = stored(tmp_path / "out", "train", m)
        steps = np.concatenate([row[:length] for row, length in zip(array, lengths, strict=True)]).astype(np.float64)
        np.testing.assert_allclose(info.modalities[m].mean, steps.mean(axis=0))
        np.testing.assert_allclose(info.modalities[m].std, steps.std(axis=0))


@pytest.mark.parametrize(
    ("name", "first"),
    [("mosi_data.pkl", "[0.5,1.25]"), ("mosi_raw.pkl", "[0]"), ("aligned_50.pkl", "$_$0")],
)
def test_ids_are_those_of_the_file(tmp_path: Path, name: str, first: str) -> None:
    prepare(written(tmp_path, TABLES[name](), name), tmp_path / "out")
    ids = (tmp_path / "out" / "val" / "ids.txt").read_text().splitlines()
    assert ids[0] == sorted(FOLDS["val"])[0] + first
    assert len(set(ids)) == 12


@pytest.mark.parametrize(
    ("sentiment", "nonneg", "pos", "seven"),
    [
        (-3.0, 0, 0, 0),
        (-0.2, 0, 0, 3),
        (0.0, 1, None, 3),
        (0.5, 1, 1, 3),  # half to even
        (1.5, 1, 1, 5),
        (2.6, 1, 1, 6),
        (-2.5, 0, 0, 1),
    ],
)
def test_targets(sentiment: float, nonneg: int, pos: int | None, seven: int) -> None:
    assert [class_of(sentiment, target) for target in ("nonneg", "pos", "seven")] == [nonneg, pos, seven]


def test_neutral_opinions_are_left_out_of_negative_against_positive(tmp_path: Path) -> None:
    table = tree.cmu_table(tree.ALIGNED)
    info = prepare(written(tmp_path, table), tmp_path / "out", target="pos")
    zeros = {split: int((table[fold]["labels"] == 0).sum()) for split, fold in FOLD_OF.items()}
    assert info.source["neutral"] == zeros
    assert info.rows == {"train": 24 - zeros["train"], "val": 12 - zeros["val"], "test": 12 - zeros["test"]}
    values = table["train"]["labels"].reshape(-1)
    assert np.load(tmp_path / "out/train/labels.npy").tolist() == (values[values != 0] > 0).tolist()


def test_seven_classes(tmp_path: Path) -> None:
    info = prepare(written(tmp_path, tree.cmu_table(tree.ALIGNED)), tmp_path / "out", target="seven")
    assert info.classes == ("-3", "-2", "-1", "0", "1", "2", "3")
    assert np.load(tmp_path / "out/train/labels.npy")[:8].tolist() == [5, 2, 3, 6, 3, 4, 0, 1]


def test_long_segments_keep_their_first_words(tmp_path: Path) -> None:
    table = tree.cmu_table(tree.ALIGNED)
    source = written(tmp_path, table)
    prepare(source, tmp_path / "whole")
    info = prepare(source, tmp_path / "cut", max_length=5)
    lengths = stored(tmp_path / "whole", "train", "text")[1]
    assert info.source["cut"]["text"] == sum((stored(tmp_path / "whole", s, "text")[1] > 5).sum() for s in FOLD_OF)
    for m in STREAMS:
        array, kept = stored(tmp_path / "cut", "train", m)
        assert kept.tolist() == np.minimum(lengths, 5).tolist()
        np.testing.assert_array_equal(array, stored(tmp_path / "whole", "train", m)[0][:, :5])


def test_steps_that_are_no_words_are_cut_by_a_setting_of_their_own(tmp_path: Path) -> None:
    source = written(tmp_path, tree.cmu_table(tree.UNALIGNED))
    shapes = prepare(source, tmp_path / "out", max_length=5).modalities
    assert [shapes[m].shape[0] for m in STREAMS] == [5, 15, 12]
    shapes = prepare(source, tmp_path / "short", max_length=5, max_frames=9).modalities
    assert [shapes[m].shape[0] for m in STREAMS] == [5, 9, 9]


def test_values_that_are_not_finite_become_zero_and_are_counted(tmp_path: Path) -> None:
    table, lines = tree.cmu_table(tree.ALIGNED), list[str]()
    table["train"]["audio"][1, -1] = [-np.inf, np.inf, np.nan, -np.inf, 7.0]
    table["train"]["audio"][2, -1, 0] = 1e300  # infinite in float32
    table["test"]["vision"][0, -1, 3] = np.nan
    info = prepare(written(tmp_path, table), tmp_path / "out", warn=lines.append)
    array, lengths = stored(tmp_path / "out", "train", "audio")
    assert array[1, lengths[1] - 1].tolist() == [0, 0, 0, 0, 7.0]
    assert array[2, lengths[2] - 1, 0] == 0
    assert info.source["not_finite"]["audio"] == {"-inf": 2, "+inf": 2, "NaN": 1}
    assert info.source["not_finite"]["visual"] == {"-inf": 0, "+inf": 0, "NaN": 1}
    assert "audio: 2 values -inf, 2 values +inf, 1 value NaN; now 0" in lines


def test_segments_without_words_are_left_out_and_named(tmp_path: Path) -> None:
    table, lines = tree.raw_table(), list[str]()
    table["valid"]["text"][4] = 0
    info = prepare(written(tmp_path, table, "mosi_raw.pkl"), tmp_path / "out", warn=lines.append)
    name = table["valid"]["id"][4]
    assert info.rows["val"] == 11
    assert info.source["skipped"] == [{"id": name, "reason": "no words", "detail": "val"}]
    assert f"skipped {name}: no words (val)" in lines


def test_a_stream_of_zeros_has_no_steps(tmp_path: Path) -> None:
    table = tree.cmu_table(tree.UNALIGNED)
    table["train"]["audio"][3] = 0
    prepare(written(tmp_path, table), tmp_path / "out")
    assert stored(tmp_path / "out", "train", "audio")[1][3] == 0


def test_many_skipped_segments_are_counted_after_twenty(tmp_path: Path) -> None:
    table, lines = tree.cmu_table(tree.ALIGNED, counts={**tree.COUNTS, "train": 60}), list[str]()
    table["train"]["text"][:25] = 0
    prepare(written(tmp_path, table), tmp_path / "out", warn=lines.append)
    assert sum(line.startswith("skipped") for line in lines) == 21
    assert "skipped 5 more segments; all are listed under `source` in dataset.json" in lines


def test_the_first_file_of_the_list_is_read_and_another_on_request(tmp_path: Path) -> None:
    for name, make in TABLES.items():
        tree.write_pickle(tmp_path / "download" / "Processed" / name, make())
    wanted: tuple[str | None, ...] = (None, *TABLES)
    for file in wanted:
        info = prepare(tmp_path / "download", tmp_path / str(file), file=file)
        assert info.source["files"]["pickle"] == (file or FILES[0])


def test_the_published_digest_is_reported(tmp_path: Path) -> None:
    lines = list[str]()
    info = prepare(written(tmp_path, TABLES["aligned_50.pkl"](), "aligned_50.pkl"), tmp_path / "out", warn=lines.append)
    assert info.source["published_sha256"].startswith("d3994fd25681")
    assert any("its SHA-256 is not the one that MMSA published" in line for line in lines)
    assert any("24 train, 12 val, 12 test segments; CMU-MOSI has 1284 train" in line for line in lines)


def test_segments_outside_the_standard_folds_are_reported(tmp_path: Path) -> None:
    table, lines = tree.raw_table(), list[str]()
    table["train"], table["test"] = table["test"], table["train"]
    prepare(written(tmp_path, table, "mosi_raw.pkl"), tmp_path / "out", warn=lines.append)
    assert any("36 segments" in line and "in another split than the standard folds have" in line for line in lines)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    table = tree.cmu_table(tree.ALIGNED)
    source = written(tmp_path, table)
    prepare(source, tmp_path / "out")
    before = read_info(tmp_path / "out").source["fingerprint"]
    table["train"]["audio"][0, -1, 0] += 1
    written(tmp_path, table)
    with pytest.raises(DataError, match="holds another prepared dataset"):
        prepare(source, tmp_path / "out")
    assert CmuMosi(CmuMosi.Settings()).fingerprint(source) != before


@pytest.mark.parametrize("make", [tree.mosi_download, tree.csd_download])
def test_two_runs_and_any_number_of_workers_give_the_same_bytes(tmp_path: Path, make: Any) -> None:
    source = make(tmp_path / "download")
    for out, workers in (("one", 1), ("two", 2)):
        CmuMosi(CmuMosi.Settings()).run(source=source, out=tmp_path / out, workers=workers)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_limit_keeps_classes_shapes_and_rows(tmp_path: Path) -> None:
    source = written(tmp_path, tree.cmu_table(tree.ALIGNED))
    whole, limited = prepare(source, tmp_path / "out"), prepare(source, tmp_path / "limited", limit=16)
    assert limited.rows == {"train": 8, "val": 4, "test": 4}
    assert set(np.load(tmp_path / "limited/train/labels.npy")) == {0, 1}
    assert [limited.modalities[m].shape for m in STREAMS] == [whole.modalities[m].shape for m in STREAMS]
    names, kept = ((tmp_path / out / "train/ids.txt").read_text().split() for out in ("out", "limited"))
    rows = [names.index(name) for name in kept]
    np.testing.assert_array_equal(
        stored(tmp_path / "limited", "train", "audio")[0], stored(tmp_path / "out", "train", "audio")[0][rows]
    )


def test_the_standard_folds_share_no_video() -> None:
    assert [len(FOLDS[split]) for split in FOLD_OF] == [52, 10, 31]
    assert len(frozenset[str]().union(*FOLDS.values())) == 93
    assert (fold_of("03bSnISJMiM"), fold_of("_dI--eQ6qVU"), fold_of("x")) == ("train", "val", None)


def without(key: str) -> Callable[[Any], object]:
    return lambda table: table["valid"].pop(key)


def put(fold: str, key: str, value: Any) -> Callable[[Any], object]:
    return lambda table: table[fold].__setitem__(key, value(copy.deepcopy(table[fold][key])))


def with_value(index: Any, value: Any) -> Callable[[Any], Any]:
    def change(entry: Any) -> Any:
        entry[index] = value
        return entry

    return change


HOSTILE: list[tuple[str, Callable[[Any], object], str]] = [
    ("mosi_data.pkl", lambda table: table.pop("valid"), "mosi_data.pkl: has no 'valid' .it has test, train."),
    ("mosi_data.pkl", without("audio"), "mosi_data.pkl: valid: has no 'audio'"),
    ("mosi_data.pkl", without("labels"), "valid: has no 'labels'"),
    ("aligned_50.pkl", without("text_bert"), "valid: has no 'text_bert'"),
    ("unaligned_50.pkl", without("audio_lengths"), "valid: has no 'audio_lengths'"),
    ("mosi_data.pkl", lambda table: table.update(train=[1, 2]), "train: holds a list, expected a dict with 'text'"),
    ("mosi_data.pkl", put("test", "audio", lambda a: a[:5]), "test/audio: 5 entries for the 12 segments of text"),
    ("mosi_data.pkl", put("test", "labels", lambda a: a[:-1]), "test/labels: 11 entries for the 12 segments"),
    ("mosi_data.pkl", put("test", "id", lambda a: a[:-1]), "test/id: 11 entries for the 12 segments"),
    ("mosi_data.pkl", put("test", "id", lambda a: "x"), "test/id: one str, expected the names of the segments"),
    ("mosi_data.pkl", put("test", "id", lambda a: np.array(5)), "test/id: one ndarray, expected the names"),
    ("mosi_data.pkl", put("test", "text", lambda a: a[..., 0]), r"test/text: shape \(12, 8\), expected \(segments"),
    ("mosi_data.pkl", put("test", "text", lambda a: a[:, :0]), r"test/text: shape \(12, 0, 6\)"),
    ("mosi_data.pkl", put("test", "text", lambda a: "words"), "test/text: not an array of numbers"),
    ("mosi_data.pkl", put("test", "audio", lambda a: [[[1]], [[1, 2]]]), "test/audio: not an array of numbers"),
    ("mosi_data.pkl", put("test", "audio", lambda a: a[..., :3]), "audio has several widths, 3, 5"),
    ("mosi_data.pkl", put("train", "labels", with_value(3, np.nan)), "label of train segment .* is nan, expected -3"),
    ("mosi_data.pkl", put("train", "labels", with_value(3, 7)), "label of train segment .* is 7, expected -3 ... 3"),
    ("mosi_data.pkl", put("train", "labels", lambda a: ["x"] * 24), "train/labels: not an array of numbers"),
    ("mosi_raw.pkl", put("train", "id", lambda a: [a[0], *a[:-1]]), "segment .* is in the file 2 times"),
    ("mosi_raw.pkl", put("train", "id", with_value(0, "a\nb")), "train/id: 'a.nb' is not the name of a segment"),
    ("mosi_raw.pkl", put("train", "id", with_value(0, "")), "train/id: '' is not the name of a segment"),
    (
        "mosi_raw.pkl",
        lambda table: table["test"]["id"].__setitem__(0, table["train"]["id"][0].replace("[0]", "[9]")),
        "video .* is in both train and test; splits share no video",
    ),
    ("unaligned_50.pkl", put("valid", "audio_lengths", with_value(2, 99)), "audio_lengths: 99 for .*, which has 15 st"),
    ("unaligned_50.pkl", put("valid", "audio_lengths", with_value(2, -1)), "audio_lengths: -1 for"),
    ("unaligned_50.pkl", put("valid", "audio_lengths", with_value(2, np.nan)), "audio_lengths: nan for"),
    ("unaligned_50.pkl", put("valid", "audio_lengths", lambda a: ["x"] * 12), "audio_lengths: not an array of numbers"),
    ("unaligned_50.pkl", put("valid", "vision_lengths", lambda a: a[1:]), "vision_lengths: 11 entries for the 12"),
    ("aligned_50.pkl", put("train", "text_bert", lambda a: a[:, 0]), r"float64 of shape \(24, 8\), expected numbers"),
]


@pytest.mark.parametrize(("name", "damage", "message"), HOSTILE)
def test_a_pickle_that_is_not_as_expected_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Any], object], message: str
) -> None:
    table = TABLES[name]()
    damage(table)
    with pytest.raises(DataError, match=message) as caught:
        prepare(written(tmp_path, table, name), tmp_path / "out")
    assert name in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_pickle_that_holds_no_dict_is_refused(tmp_path: Path) -> None:
    tree.write_pickle(tmp_path / "download" / "mosi_data.pkl", [1, 2, 3])
    with pytest.raises(DataError, match=r"mosi_data\.pkl: holds a list, expected a dict with 'train'; is it another"):
        prepare(tmp_path / "download", tmp_path / "out")


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"<html>403</html>", b""])
def test_text_under_the_name_of_a_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mosi_data.pkl").write_bytes(content)
    with pytest.raises(DataError, match=r"mosi_data\.pkl: cannot be read as a pickle"):
        prepare(tmp_path, tmp_path / "out")


def test_code_in_the_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mosi_data.pkl").write_bytes(b"cos\nsystem\n(S'touch run'\ntR.")
    with pytest.raises(DataError, match=r"mosi_data\.pkl: this pickle asks for os\.system"):
        prepare(tmp_path, tmp_path / "out")


def test_values_beyond_the_given_lengths_are_reported_and_left_out(tmp_path: Path) -> None:
    table, lines = tree.mmsa_table(tree.UNALIGNED), list[str]()
    longest = int(np.argmax(table["train"]["audio_lengths"]))
    table["train"]["audio_lengths"][longest] = 2
    prepare(written(tmp_path, table, "unaligned_50.pkl"), tmp_path / "out", warn=lines.append)
    assert stored(tmp_path / "out", "train", "audio")[1][longest] == 2
    assert not stored(tmp_path / "out", "train", "audio")[0][longest, 2:].any()
    assert any("train/audio: 1 segment with values after the last valid step" in line for line in lines)


def test_an_empty_folder_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    with pytest.raises(DataError, match=r"CMU-MOSI is not here; expected mosi_data\.pkl, .* or CMU_MOSI_\*\.csd"):
        prepare(tmp_path / "download", tmp_path / "out")
    with pytest.raises(DataError, match=r"CMU-MOSI is not here; expected mosi_raw\.pkl$"):
        prepare(tmp_path / "download", tmp_path / "out", file="mosi_raw.pkl")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("MOSI", "MOSEI"):
        tree.write_pickle(tmp_path / "download" / folder / "aligned_50.pkl", {})
    with pytest.raises(DataError, match=r"MOSEI.aligned_50\.pkl and .*MOSI.aligned_50\.pkl have the same name; name"):
        prepare(tmp_path / "download", tmp_path / "out")
