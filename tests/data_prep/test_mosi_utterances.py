"""CMU-MOSI's utterances by bc-LSTM: rows, labels, folds by video, TF-IDF, damage; made-up files and genuine ones."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support import mosi_tree as tree

from data_prep.cmu_mosi import CmuMosi
from data_prep.job import ignore
from data_prep.sources.mosi_folds import FOLDS, fold_of
from data_prep.sources.mosi_segments import video_of
from data_prep.sources.mosi_tables import opened
from data_prep.texts import tfidf as mosi_tfidf
from drcli.data.format import SPLITS, DatasetInfo
from drcli.errors import DataError, UsageError

STANDARD = "24 of the 31 standard test videos: the standard test split would be scored with its own labels"


def prepare(source: Path, out: Path, *, warn: Any = ignore, **settings: Any) -> DatasetInfo:
    chosen = CmuMosi.Settings.model_validate({"val_videos": 2, "tfidf_dims": 3, **settings})
    return CmuMosi(chosen).run(source=source, out=out, warn=warn)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tree.utterance_download(tmp_path / "download")


def stored(out: Path, split: str, name: str) -> np.ndarray:
    found: np.ndarray = np.load(out / split / f"{name}.npy")
    return found


def ids(out: Path, split: str) -> list[str]:
    return (out / split / "ids.txt").read_text(encoding="utf-8").split()


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def changed(path: Path, change: Callable[[list[list[str]]], None]) -> None:
    rows = tree.read_table(path)
    change(rows)
    tree.write_table(path, rows)


def test_every_row_has_the_numbers_and_the_label_of_its_utterance(source: Path, tmp_path: Path) -> None:
    info = prepare(source, tmp_path / "out")
    assert info.rows == info.samples == {"train": 24, "val": 8, "test": 8}
    assert {m: (spec.shape, spec.kind) for m, spec in info.modalities.items()} == {
        "text": ((6,), "vector"), "audio": ((5,), "vector"), "visual": ((4,), "vector"),
    }  # fmt: skip
    names = [row[0] for row in tree.read_table(source / "bc/transcripts.csv")]
    labels = {row[0]: int(row[3]) for row in tree.read_table(source / "bc/transcripts.csv")}
    for part, splits in (("train", ("train",)), ("test", ("val", "test"))):
        order = [names[int(row[0])] for row in tree.read_table(source / f"bc/text_{part}.csv")]
        for m, folder in (("text", "text"), ("audio", "audio"), ("visual", "video")):
            table = tree.read_table(source / f"bc/{folder}/{folder}_{part}0.csv")
            wanted = {name: list(map(float, row[:-1])) for name, row in zip(order, table, strict=True)}
            for split in splits:
                rows = zip(ids(tmp_path / "out", split), stored(tmp_path / "out", split, m), strict=True)
                assert all(np.allclose(found, wanted.pop(name)) for name, found in rows)
            assert not wanted
        for split in splits:
            assert [labels[name] for name in ids(tmp_path / "out", split)] == stored(
                tmp_path / "out", split, "labels"
            ).tolist()


def test_val_is_drawn_by_video_from_those_that_the_vectors_do_not_know(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", warn=lines.append)
    videos = {split: {name[:11] for name in ids(tmp_path / "out", split)} for split in SPLITS}
    assert videos["train"] == set(tree.TRAINED_ON)
    assert len(videos["val"]) == 2
    assert videos["val"] | videos["test"] == set(tree.UNSEEN)
    assert not videos["val"] & videos["test"]
    assert info.source["videos"] == {split: sorted(found) for split, found in videos.items()}
    assert STANDARD in info.source["why"]
    assert "val is drawn by video from the others, the rest is test" in info.source["why"]
    assert any(line.endswith("the rest is test (8 utterances of 2 videos in val)") for line in lines)
    drawn = {seed: prepare(source, tmp_path / f"{seed}", seed=seed).source["videos"]["val"] for seed in range(1, 5)}
    assert len(set(map(tuple, drawn.values()))) > 1
    with pytest.raises(DataError, match=r"val_videos = 4, but only 4 videos are outside .*; ask for 3 at most"):
        prepare(source, tmp_path / "none", val_videos=4)


def test_scores_come_from_the_official_file_and_an_utterance_without_length_is_named(
    source: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", warn=lines.append, target="seven")
    for split in SPLITS:
        places = [(name[:11], int(name[12:])) for name in ids(tmp_path / "out", split)]
        order = [*tree.TRAINED_ON, *tree.UNSEEN]
        scores = [tree.score_of(order.index(video), number) for video, number in places]
        assert stored(tmp_path / "out", split, "labels").tolist() == [round(score) + 3 for score in scores]
    name = f"{tree.UNSEEN[-1]}_2"
    assert info.source["no_length"] == {name: "1 to 1 s"}
    assert f"{name} has no length in the official label file (1 to 1 s); its vectors are kept" in lines
    neutral = sum(tree.score_of(video, number) == 0 for video in range(10) for number in range(1, 5))
    assert sum(prepare(source, tmp_path / "pos", target="pos").rows.values()) == 40 - neutral < 40


def test_without_the_official_file_the_sign_alone_is_known(tmp_path: Path) -> None:
    source, lines = tree.utterance_download(tmp_path / "download", scores=False), list[str]()
    assert prepare(source, tmp_path / "out", warn=lines.append).rows["train"] == 24
    assert any("no CMU_MOSI_Opinion_Labels.csd beside the folder" in line for line in lines)
    with pytest.raises(DataError, match="target = seven needs the scores; put the CMU SDK's CMU_MOSI_Opinion_Labels"):
        prepare(source, tmp_path / "seven", target="seven")


def test_two_preparations_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    for text in ("shipped", "tfidf"):
        prepare(source, tmp_path / text, text=text)
        prepare(source, tmp_path / f"{text} again", text=text)
        assert contents(tmp_path / text) == contents(tmp_path / f"{text} again")


def test_text_is_fitted_on_training_transcripts_alone(source: Path, tmp_path: Path) -> None:
    before = prepare(source, tmp_path / "before", text="tfidf")

    def rewrite(rows: list[list[str]]) -> None:
        for row in rows:
            if row[0][:11] in tree.UNSEEN:
                row[1] = "SAD FUN AND OTHER WORDS"

    changed(source / "bc/transcripts.csv", rewrite)
    after = prepare(source, tmp_path / "after", text="tfidf")
    assert before.modalities == after.modalities
    first, second = tmp_path / "before", tmp_path / "after"
    np.testing.assert_array_equal(stored(first, "train", "text"), stored(second, "train", "text"))
    assert not np.array_equal(stored(first, "test", "text"), stored(second, "test", "text"))


def test_tfidf_keeps_the_angles_of_its_formula(source: Path, tmp_path: Path) -> None:
    """With as many numbers as there are distinct transcripts, nothing is lost: products are those of the weights."""
    prepare(source, tmp_path / "out", text="tfidf", tfidf_dims=4)
    said = {row[0]: row[1].lower().split() for row in tree.read_table(source / "bc/transcripts.csv")}
    texts = [said[name] for name in ids(tmp_path / "out", "train")]
    grams = [Counter([*words, *map(" ".join, pairwise(words))]) for words in texts]
    holding = Counter(gram for found in grams for gram in found)
    rows = []
    for found in grams:
        weights = {
            gram: (1 + math.log(count)) * (1 + math.log((1 + len(texts)) / (1 + holding[gram])))
            for gram, count in found.items()
            if holding[gram] >= mosi_tfidf.MIN_COUNT
        }
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        rows.append({gram: weight / length for gram, weight in weights.items()})
    expected = [[sum(a[gram] * b.get(gram, 0) for gram in a) for b in rows] for a in rows]
    assert len({tuple(sorted(row)) for row in rows}) == 4
    vectors = stored(tmp_path / "out", "train", "text")
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)


def test_more_dimensions_than_the_transcripts_have_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tfidf_dims = 100: 24 training transcripts with 1\d words and pairs allow"):
        prepare(source, tmp_path / "out", text="tfidf", tfidf_dims=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"file": "bc-LSTM", "folds": "standard"}, f"folds: standard is refused for bc-LSTM: .*{STANDARD}"),
        ({"file": "csd", "folds": "own"}, "folds: own is bc-LSTM's, csd has the standard ones"),
        ({"file": "mosi_data.pkl", "text": "tfidf"}, "needs the transcripts of bc-LSTM, mosi_data.pkl has none"),
    ],
)
def test_settings_that_no_file_can_meet_are_refused_before_any_is_read(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CmuMosi.Settings.model_validate(settings)


def test_the_standard_folds_are_refused_when_the_folder_is_found(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"bc: dataset.prepare: folds: standard is refused for bc-LSTM: .*{STANDARD}"):
        prepare(source, tmp_path / "out", folds="standard")


def test_the_sdks_streams_come_first_and_the_label_file_alone_is_none(source: Path, tmp_path: Path) -> None:
    assert prepare(source, tmp_path / "alone").source["folds"] == "own"
    for path in tree.csd_download(tmp_path).glob("*.csd"):
        shutil.move(path, source / "csd" / path.name)
    assert "aligned" in prepare(source, tmp_path / "all").source
    tree.write_csd(source / "csd/CMU_MOSI_Opinion_Labels.csd", tree.official_labels())
    assert prepare(source, tmp_path / "asked", file="bc-LSTM", target="nonneg", folds="own").rows["train"] == 24


def damage(name: str, row: int, column: int, value: str) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        changed(source / "bc" / name, lambda rows: rows[row].__setitem__(column, value))

    return apply


def without(name: str) -> Callable[[Path], None]:
    return lambda source: (source / "bc" / name).unlink()


def raw(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(source: Path) -> None:
        (source / "bc" / name).write_bytes(content)

    return apply


def other_score(source: Path) -> None:
    labels = tree.official_labels()
    labels[tree.TRAINED_ON[0]][0][0] *= -1
    tree.write_csd(source / "csd/CMU_MOSI_Opinion_Labels.csd", labels)


def fewer_scores(source: Path) -> None:
    labels = {video: (scores[:3], times[:3]) for video, (scores, times) in tree.official_labels().items()}
    tree.write_csd(source / "csd/CMU_MOSI_Opinion_Labels.csd", labels)


def fewer_videos(source: Path) -> None:
    labels = tree.official_labels()
    del labels[tree.UNSEEN[0]]
    tree.write_csd(source / "csd/CMU_MOSI_Opinion_Labels.csd", labels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("video/video_test0.csv"), r"video/video_test0\.csv: no such file; take the folder of bc-LSTM as it"),
        (without("text_train.csv"), r"bc/text_train\.csv: no such file"),
        (damage("transcripts.csv", 2, 0, "elsewhere_1"), r"transcripts\.csv:3: 'elsewhere_1' is no <video>_<number>"),
        (damage("transcripts.csv", 2, 0, "../etc/passwd"), r"'\.\./etc/passwd' is no <video>_<number> of CMU-MOSI"),
        (damage("transcripts.csv", 1, 0, "tmZoasNr4rU_1"), r"transcripts\.csv:2: clip tmZoasNr4rU_1 is listed before"),
        (
            damage("transcripts.csv", 0, 3, "2"),
            r"transcripts\.csv:1: the label of tmZoasNr4rU_1 is '2', expected 0 or 1",
        ),
        (damage("text_train.csv", 0, 0, "40"), r"text_train\.csv:1: '40' is no row of transcripts\.csv, which has 40"),
        (damage("text_test.csv", 0, 0, "-1"), r"text_test\.csv:1: '-1' is no row of transcripts"),
        (damage("text_test.csv", 0, 0, "²"), r"text_test\.csv:1: '²' is no row of transcripts"),
        (damage("audio/audio_train0.csv", 3, 2, "loud"), r"audio_train0\.csv:4: holds what is not a number"),
        (
            damage("audio/audio_train0.csv", 3, 5, "7"),
            r"audio_train0\.csv:4: the label is '7', that of .* is [01]; the",
        ),
        (raw("video/video_test0.csv", b'"1","2","3","4","1"\n'), r"video_test0\.csv: has 1 rows, the table of row"),
        (raw("video/video_test0.csv", b'"1","2"\n"1"\n'), r"video_test0\.csv:2: has 1 fields, expected 2"),
        (raw("text/text_test0.csv", b'"1" 2,"0"\n'), r"text_test0\.csv:1: is not a row of a table"),
        (raw("text/text_test0.csv", b"\xff\xfe"), r"text_test0\.csv: is not UTF-8 text"),
        (raw("text/text_test0.csv", b""), r"text_test0\.csv: has 0 rows"),
        (other_score, r"Labels\.csd: the score of tmZoasNr4rU_1 is -2\.4, but transcripts\.csv calls it non-negative"),
        (fewer_scores, r"Labels\.csd: has 3 opinions of .*, and none for .*_4"),
        (fewer_videos, r"Labels\.csd: video Ci-AH39fi3Y is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_not_as_expected_are_refused(
    spoil: Callable[[Path], None], message: str, source: Path, tmp_path: Path
) -> None:
    spoil(source)
    with pytest.raises(DataError, match=message):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_that_are_not_finite_become_zero_and_are_counted(source: Path, tmp_path: Path) -> None:
    damage("audio/audio_train0.csv", 3, 2, "nan")(source)
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", warn=lines.append)
    assert info.source["not_finite"]["audio"] == {"-inf": 0, "+inf": 0, "NaN": 1}
    assert "audio: 1 value NaN; now 0" in lines
    assert stored(tmp_path / "out", "train", "audio")[3, 2] == 0


@pytest.mark.parametrize(("name", "video"), [("8d-gEyoeBzc_12", "8d-gEyoeBzc"), ("_dI--eQ6qVU_1", "_dI--eQ6qVU")])
def test_the_video_of_an_utterance_is_known(name: str, video: str) -> None:
    assert video_of(name) == video


@pytest.fixture(scope="module")
def genuine(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DatasetInfo]:
    folder = tmp_path_factory.mktemp("mosi") / "out"
    return folder, prepare(shared / "data/cmu_mosi", folder, val_videos=11, tfidf_dims=100, target="seven")


def test_the_genuine_utterances_have_the_official_labels(shared: Path, genuine: tuple[Path, DatasetInfo]) -> None:
    out, info = genuine
    with opened({"labels": shared / "data/cmu_mosi/csd/CMU_MOSI_Opinion_Labels.csd"}) as tables:
        table = tables["labels"]
        scores = {video: table.read(video).features[:, 0] for video in table.videos}
    found: dict[str, int] = {}
    for split in SPLITS:
        found |= dict(zip(ids(out, split), stored(out, split, "labels").tolist(), strict=True))
    official = {
        f"{video}_{k}": int(np.round(score)) + 3 for video in scores for k, score in enumerate(scores[video], 1)
    }
    assert found == official
    assert len(found) == 2199
    assert info.rows == {"train": 1447, "val": 240, "test": 512}
    assert {m: spec.shape for m, spec in info.modalities.items()} == {"text": (100,), "audio": (73,), "visual": (100,)}
    signs = {row[0]: row[3] == "1" for row in tree.read_table(shared / "data/cmu_mosi/bc-LSTM/transcripts.csv")}
    assert signs == {f"{video}_{k}": score >= 0 for video in scores for k, score in enumerate(scores[video], 1)}


def test_the_genuine_folds_are_as_the_reason_says(genuine: tuple[Path, DatasetInfo]) -> None:
    _, info = genuine
    videos = info.source["videos"]
    assert {split: len(found) for split, found in videos.items()} == {"train": 62, "val": 11, "test": 20}
    assert Counter(map(fold_of, videos["train"])) == {"train": 29, "val": 9, "test": 24}
    assert info.source["no_length"] == {"2WGyTLYerpo_44": "127.213 to 127.213 s"}
    assert json.loads(json.dumps(info.source["segments"])) == {"train": 1447, "val": 240, "test": 512}


def test_the_genuine_labels_with_streams_give_the_published_counts(shared: Path, tmp_path: Path) -> None:
    """The official label file beside made-up streams without gaps: 1,283 / 229 / 686, one opinion has no length."""
    labels = shared / "data/cmu_mosi/csd/CMU_MOSI_Opinion_Labels.csd"
    with opened({"labels": labels}) as tables:
        ends = {video: float(tables["labels"].read(video).intervals.max()) for video in tables["labels"].videos}
    source, generator = tmp_path / "download", np.random.default_rng(0)
    source.mkdir()
    shutil.copyfile(labels, source / labels.name)
    words: dict[str, tuple[Any, Any]] = {}
    for video, end in ends.items():
        starts = np.arange(0, end + 5, 5)
        words[video] = (generator.normal(size=(len(starts), 2)), np.stack([starts, starts + 5], axis=1))
    for name in ("TimestampedWordVectors", "COVAREP", "Visual_Facet_42"):
        tree.write_csd(source / f"CMU_MOSI_{name}.csd", words)
    info = prepare(source, tmp_path / "out")
    assert info.rows == {"train": 1283, "val": 229, "test": 686}
    assert [(s["id"], s["reason"]) for s in info.source["skipped"]] == [("2WGyTLYerpo[43]", "no words")]
    assert {split: len(FOLDS[split]) for split in SPLITS} == {"train": 52, "val": 10, "test": 31}


@pytest.mark.slow
def test_genuine_text_is_fitted_on_training_transcripts_alone(shared: Path, tmp_path: Path) -> None:
    original = shared / "data/cmu_mosi/bc-LSTM"
    shutil.copytree(original, tmp_path / "bc", copy_function=shutil.copyfile)
    for path in (tmp_path / "bc", *(tmp_path / "bc").iterdir()):
        path.chmod(0o755)
    seen = {int(row[0]) for row in tree.read_table(original / "text_train.csv")}
    rows = tree.read_table(original / "transcripts.csv")
    for i, row in enumerate(rows):
        row[1] = row[1] if i in seen else f"GOOD ZEBRA {row[1]}"
    tree.write_table(tmp_path / "bc/transcripts.csv", rows)
    found = []
    for name, source in (("before", original), ("after", tmp_path / "bc")):
        prepare(source, tmp_path / name, text="tfidf", tfidf_dims=20, val_videos=11)
        found.append({split: stored(tmp_path / name, split, "text") for split in SPLITS})
    np.testing.assert_array_equal(found[0]["train"], found[1]["train"])
    assert not np.array_equal(found[0]["test"], found[1]["test"])
