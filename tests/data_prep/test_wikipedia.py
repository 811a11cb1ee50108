from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.preparing import prepared_with, rows_of
from support.wikipedia_tree import ENDINGS, SIZES, features, listed, make_wikipedia, write_list

from data_prep.sources.wikipedia_files import CATEGORIES
from data_prep.wikipedia import Wikipedia
from drcli.data.format import DatasetInfo
from drcli.errors import DataError

prepared: Callable[..., DatasetInfo] = partial(prepared_with, Wikipedia, {})
rows = partial(rows_of, ("text", "visual"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_wikipedia(tmp_path / "download")


@pytest.fixture
def genuine(shared: Path) -> Path:
    folder = shared / "data" / "wiki"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.mark.parametrize(("text", "variable"), [("tfidf", "T_tfidf"), ("lda", "T")])
def test_each_row_holds_its_documents_features_and_category(
    source: Path, tmp_path: Path, text: str, variable: str
) -> None:
    info = prepared(source, tmp_path / "out", text=text)
    assert info.classes == CATEGORIES
    assert info.rows == info.samples == {"train": 48, "val": 12, "test": 20}
    assert {m: spec.kind for m, spec in info.modalities.items()} == {"text": "vector", "visual": "vector"}
    stored = features()
    for split, part in (("train", "train"), ("val", "train"), ("test", "test")):
        texts, pictures, labels, ids = rows(tmp_path / "out", split)
        places = [int(name.rsplit("-", 1)[1]) for name in ids]
        assert ids == [f"text-{part}-{place}" for place in places]
        assert labels == [place % 10 for place in places]
        np.testing.assert_array_equal(texts, stored[f"{variable}_{ENDINGS[part]}"][places].astype(np.float32))
        np.testing.assert_array_equal(pictures, stored[f"I_{ENDINGS[part]}"][places].astype(np.float32))


def test_dimensions_are_standardised_by_the_training_rows_alone(source: Path, tmp_path: Path) -> None:
    info = prepared(source, tmp_path / "out")
    _, pictures, _, _ = rows(tmp_path / "out", "train")
    np.testing.assert_allclose(info.modalities["visual"].mean, pictures.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(info.modalities["visual"].std, pictures.std(axis=0), rtol=1e-5)


def test_validation_is_drawn_from_the_training_part_by_class_share_and_seed(source: Path, tmp_path: Path) -> None:
    drawn = {}
    chosen: dict[str, dict[str, float]] = {"a": {}, "b": {"seed": 1}, "c": {"val_share": 0.5}}
    for name, settings in chosen.items():
        prepared(source, tmp_path / name, **settings)
        _, _, labels, ids = rows(tmp_path / name, "val")
        drawn[name] = set(ids)
        assert max(Counter(labels).values()) - min(Counter(labels).values()) <= 1
        assert drawn[name] | set(rows(tmp_path / name, "train")[3]) == {f"text-train-{row}" for row in range(60)}
    assert (len(drawn["a"]), len(drawn["b"]), len(drawn["c"])) == (12, 12, 30)
    assert drawn["a"] != drawn["b"]


def test_two_runs_are_equal_byte_for_byte(source: Path, tmp_path: Path) -> None:
    assert prepared(source, tmp_path / "one") == prepared(source, tmp_path / "two")
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_files_are_found_by_what_they_hold(source: Path, tmp_path: Path) -> None:
    prepared(source, tmp_path / "out")
    (source / "deep").mkdir()
    (source / "raw_features.mat").rename(source / "deep" / "wiki.mat")
    for number, part in enumerate(SIZES):
        (source / f"{part}set_txt_img_cat.list").rename(source / f"{number}.list")
    moved = prepared(source, tmp_path / "moved")
    assert moved.source["files"] == {"features": "wiki.mat", "train": "0.list", "test": "1.list"}
    np.testing.assert_array_equal(rows(tmp_path / "moved", "test")[0], rows(tmp_path / "out", "test")[0])


def test_a_limit_keeps_splits_and_classes_in_their_shares(source: Path, tmp_path: Path) -> None:
    info = prepared(source, tmp_path / "out", options={"limit": 40})
    assert info.rows == {"train": 24, "val": 6, "test": 10}


def test_counts_that_are_not_the_official_ones_and_doubles_are_named(source: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    stored = features()
    for name in ("T_tfidf", "I"):
        stored[f"{name}_te"][3] = stored[f"{name}_tr"][0]
    make_wikipedia(source, **stored)
    info = prepared(source, tmp_path / "out", options={"warn": lines.append})
    assert lines[0].endswith("trainset_txt_img_cat.list: 60 documents; the official train has 2173")
    assert lines[1].endswith("testset_txt_img_cat.list: 20 documents; the official test has 693")
    ((split, others),) = info.source["repeated"].items()
    assert (split, sum(others.values())) == ("test", 1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"I_te": None}, "no MAT-file holds T_tfidf_tr, T_tfidf_te, I_tr, I_te .found: raw_features.mat.; one must"),
        ({"T_tfidf_tr": None}, "or set dataset.prepare.text=lda"),
        ({"I_te": np.ones((19, 6))}, "visual of test is 19 x 6, 20 x 6 fits text and train"),
        ({"I_te": np.ones((20, 5))}, "visual of test is 20 x 5, 20 x 6 fits text and train"),
        ({"I_te": np.full((20, 6), np.nan)}, "visual of test has values that are not finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    tmp_path: Path, changed: dict[str, np.ndarray | None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepared(make_wikipedia(tmp_path / "download", **changed), tmp_path / "out")


@pytest.mark.parametrize(
    ("part", "lines", "message"),
    [
        (
            "test",
            listed("test")[:-1],
            "test has 20 documents, and not one list .* of as many lines .*has 19, train.*60",
        ),
        (
            "test",
            [*listed("test")[:-1], "text\tpicture\t11"],
            ":20: 'text.tpicture.t11' is not a text, a picture and a",
        ),
        (
            "test",
            [*listed("test")[:-1], "text 11"],
            ":20: 'text 11' is not a text, a picture and a category from 1 to 10",
        ),
        ("test", [*listed("test")[:-1], listed("train")[5]], "text-train-5 is listed before, at .*trainset.*:6"),
    ],
)
def test_lists_that_do_not_fit_are_refused(
    source: Path, tmp_path: Path, part: str, lines: list[str], message: str
) -> None:
    write_list(source, part, lines)
    with pytest.raises(DataError, match=message):
        prepared(source, tmp_path / "out")


def test_two_files_of_features_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "again.mat").write_bytes((source / "raw_features.mat").read_bytes())
    with pytest.raises(DataError, match=r"2 MAT-files hold T_tfidf_tr, .*found: again\.mat, raw_features\.mat"):
        prepared(source, tmp_path / "out")


def test_the_genuine_set_has_the_official_counts_and_labels(genuine: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepared(genuine, tmp_path / "out", options={"warn": lines.append})
    assert (lines, info.source["repeated"]) == ([], {})
    assert info.rows == info.samples == {"train": 1738, "val": 435, "test": 693}
    assert {m: spec.shape for m, spec in info.modalities.items()} == {"text": (1000,), "visual": (128,)}
    found = {split: rows(tmp_path / "out", split) for split in info.rows}
    counts = {split: [part[2].count(k) for k in range(10)] for split, part in found.items()}
    assert counts["test"] == [34, 88, 96, 85, 65, 58, 51, 41, 71, 104]
    both = [a + b for a, b in zip(counts["train"], counts["val"], strict=True)]
    assert both == [138, 272, 244, 248, 202, 178, 186, 144, 214, 347]
    labels = {name: label for part in found.values() for label, name in zip(part[2], part[3], strict=True)}
    lists = [line.split("\t") for path in genuine.glob("*.list") for line in path.read_text().splitlines()]
    assert labels == {text: int(category) - 1 for text, _, category in lists}


@pytest.mark.slow
def test_the_text_of_the_genuine_set_says_more_than_the_picture(genuine: Path, tmp_path: Path) -> None:
    """Nearest class mean by cosine, of standardised features: rows and labels belong together."""
    info = prepared(genuine, tmp_path / "out", text="lda")
    accuracy = {}
    for k, (m, spec) in enumerate(info.modalities.items()):
        train, test = (rows(tmp_path / "out", split) for split in ("train", "test"))
        x, y = ((np.asarray(part[k]) - spec.mean) / spec.std for part in (train, test))
        means = np.stack([x[np.array(train[2]) == label].mean(axis=0) for label in range(10)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        accuracy[m] = np.mean((y @ means.T).argmax(axis=1) == test[2])
    assert accuracy["text"] > 0.6
    assert 0.2 < accuracy["visual"] < 0.35
