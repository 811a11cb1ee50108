from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.command_line import tree
from support.genuine import existing
from support.image_text_trees import DISHES, MOODS, make_food101, make_lists, make_mvsa, write_jpeg
from support.preparing import prepared_with

from data_prep.food101 import Food101
from data_prep.image_text import covered
from data_prep.mvsa import MvsaSingle
from data_prep.sources.food101_lists import class_names, list_paths, read_list
from data_prep.sources.mvsa_files import labels_of, read_labels
from data_prep.texts.hashing import token_ids
from data_prep.texts.reading import Reading
from data_prep.texts.tfidf import tfidf
from drcli.data.format import SPLITS
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

SMALL: dict[str, Any] = {"picture_size": 16, "max_length": 8, "vocabulary": 500}

food = partial(prepared_with, Food101, {**SMALL, "val_share": 0.25})
mvsa = partial(prepared_with, MvsaSingle, SMALL)


def texts_of(out: Path, split: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    ids, lengths = (np.load(out / split / f"text{end}.npy") for end in ("", "_lengths"))
    return ids, lengths, (out / split / "ids.txt").read_text().splitlines()


def test_dishes_become_pictures_and_token_ids_twice_the_same(tmp_path: Path) -> None:
    make_food101(tmp_path / "food")
    lines: list[str] = []
    info = food(tmp_path / "food", tmp_path / "one", options={"warn": lines.append})
    assert lines == ["the lists have 3 classes, Food-101 has 101"]
    assert (info.classes, info.samples) == (DISHES, {"train": 27, "val": 9, "test": 12})
    assert info.modalities["visual"].shape == (1, 3, 16, 16)
    assert (info.modalities["text"].kind, info.modalities["text"].shape) == ("tokens", (8,))
    assert info.source["texts"] == {"encodings": {"utf-8": 2}, "replaced": {}}
    assert info.source["cut_texts"] == {"train": 18, "val": 6, "test": 8}  # baklava, of one word, gives eight tokens
    ids, lengths, names = texts_of(tmp_path / "one", "test")
    expected, _, _ = token_ids(["Grandma’s beef tartare, the best | part 1"], vocabulary=500, length=8)
    row = names.index("beef_tartare_501")
    np.testing.assert_array_equal(ids[row], expected[0])
    assert lengths[row] == 8
    visual, labels = (np.load(tmp_path / "one" / "test" / f"{name}.npy") for name in ("visual", "labels"))
    assert visual[row, 0, :, 8, 8].argmax() == 0  # red; OpenCV writes blue first
    assert labels[row] == 2
    food(tmp_path / "food", tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    open_dataset(tmp_path / "one", name="food101")


@pytest.mark.slow
def test_tfidf_is_that_of_the_stored_training_texts(tmp_path: Path) -> None:
    make_food101(tmp_path / "food")
    (tmp_path / "food" / "images" / "train" / "baklava" / "baklava_3.jpg").write_bytes(b"GIF89a, renamed")
    info = food(tmp_path / "food", tmp_path / "out", text="tfidf", tfidf_dims=3, options={"max_bad": 0.1})
    assert [(s["id"], s["reason"]) for s in info.source["skipped"]] == [("baklava_3", "corrupt")]
    texts = {}
    for split in SPLITS:
        names = (tmp_path / "out" / split / "ids.txt").read_text().splitlines()
        numbers = [(name.rsplit("_", 1)[0].replace("_", " "), int(name.rsplit("_", 1)[1]) % 500) for name in names]
        texts[split] = [f"Grandma’s {dish}, the best | part {n}" for dish, n in numbers]
    for split, expected in tfidf(texts, 3).items():
        np.testing.assert_array_equal(np.load(tmp_path / "out" / split / "text.npy"), expected)


def test_the_lists_of_later_work_give_a_validation_split(tmp_path: Path) -> None:
    make_food101(tmp_path / "food")
    rows = {"train": range(9), "dev": range(9, 12), "test": range(500, 504)}
    for name, numbers in rows.items():
        part = "test" if name == "test" else "train"
        lines = [
            json.dumps({"id": f"{d}_{d}_{n}.jpg", "label": d, "text": d, "img": f"images/{part}/{d}/{d}_{n}.jpg"})
            for d in DISHES
            for n in numbers
        ]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    (tmp_path / "food" / "images" / "test" / "apple_pie" / "apple_pie_502.jpg").unlink()
    info = food(tmp_path / "food", tmp_path / "out", lists_dir=tmp_path)
    assert info.samples == {"train": 27, "val": 9, "test": 11}
    assert info.source["missing"] == {"test": {"apple_pie": 1}}


@pytest.mark.parametrize(
    ("row", "title"),
    [
        ("apple_pie_7.jpg,My pie,apple_pie", "My pie"),
        ("Image_path,text,label\nimages/train/apple_pie/apple_pie_7.jpg,My pie,apple_pie", "My pie"),
        (",image_path,text,food\n0,apple_pie_7.jpg,My pie,apple_pie", "My pie"),
        ("apple_pie_7.jpg,,apple_pie", ""),
        ("apple_pie_7.jpg,42,apple_pie", "42"),
        ("apple_pie_7.jpg,apple_pie,apple_pie", "apple_pie"),
        ('apple_pie_7.jpg,"a, ""b""\n &raquo; c",apple_pie', 'a, "b" » c'),
    ],
)
def test_a_titles_columns_are_told_by_what_they_hold(tmp_path: Path, row: str, title: str) -> None:
    (tmp_path / "t.csv").write_text(f"{row}\n")
    (found,) = read_list(tmp_path / "t.csv", Reading())
    assert (found.name, found.label, found.text) == ("apple_pie_7.jpg", "apple_pie", title)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "../../etc/passwd,x,y", r"t.csv:1: no field is the name of a picture"),
        ("t.csv", "apple_pie_7.jpg,My pie,baklava", r"t.csv:1: no field is apple_pie, which 'apple_pie_7.jpg' says"),
        ("t.csv", 'apple_pie_7.jpg,"My pie,apple_pie', r"t.csv:\d: is not a line of CSV"),
        ("t.csv", f"apple_pie_7.jpg,{'x' * 1_000_001},apple_pie", r"is not a line of CSV"),
        (
            "t.csv",
            "apple_pie_7.jpg,a,apple_pie\napple_pie_7.jpg,b,apple_pie",
            r"t.csv:2: clip apple_pie_7.jpg is listed",
        ),
        ("t.jsonl", '{"img": "apple_pie_7.jpg", "label": "apple_pie"}', r"t.jsonl:1: is not an object with img, label"),
        ("t.jsonl", "[" * 100_000, r"t.jsonl:1: is not an object"),
        ("t.jsonl", '{"img": "x/../y_7.jpg", "label": "z", "text": ""}', r"picture 'y_7.jpg' is not <class>_<number>"),
    ],
)
def test_a_line_that_is_no_dish_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / name, Reading())


def test_absent_lists_and_a_class_that_train_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither texts/train_titles.csv and test_titles.csv nor train.jsonl"):
        list_paths(tmp_path, None)
    for split, dish in {"train": "apple_pie", "test": "baklava"}.items():
        (tmp_path / f"{split}.csv").write_text(f"{dish}_7.jpg,x,{dish}\n")
    lists = {split: read_list(tmp_path / f"{split}.csv", Reading()) for split in ("train", "test")}
    with pytest.raises(DataError, match=r"test.csv:1: class 'baklava' of test is not in train"):
        class_names(lists)


def test_the_genuine_lists_of_food_101_have_their_counts(shared: Path, tmp_path: Path) -> None:
    for name, count in (("dev", 5000), ("test", 22715)):
        packed = existing(shared / "data" / "food101" / f"{name}.jsonl.gz")
        (tmp_path / f"{name}.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
        rows = read_list(tmp_path / f"{name}.jsonl", Reading())
        assert (len(rows), len({row.label for row in rows})) == (count, 101)
        assert max(len(row.text.split()) for row in rows) < 150
    assert (
        197 <= min(Counter(row.label for row in rows).values()) <= max(Counter(r.label for r in rows).values()) <= 238
    )


def test_moods_become_pictures_and_texts_of_either_encoding_twice_the_same(tmp_path: Path) -> None:
    make_mvsa(tmp_path / "mvsa")
    lines: list[str] = []
    info = mvsa(tmp_path / "mvsa", tmp_path / "one", options={"warn": lines.append})
    assert lines == []
    assert (info.classes, info.samples) == (MOODS, {"train": 18, "val": 6, "test": 6})
    assert info.source["texts"] == {"encodings": {"gb18030": 7, "utf-8": 23}, "replaced": {}}
    for split in SPLITS:
        assert set(Counter(np.load(tmp_path / "one" / split / "labels.npy").tolist())) == {0, 1, 2}
    mvsa(tmp_path / "mvsa", tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert sum(mvsa(tmp_path / "mvsa", tmp_path / "more", labelling="majority").samples.values()) == 33


def test_pairs_with_one_picture_are_in_one_split_and_lists_that_divide_them_are_told(tmp_path: Path) -> None:
    make_mvsa(tmp_path / "mvsa")
    data = tmp_path / "mvsa" / "MVSA_Single" / "data"
    for number in range(12, 20):
        (data / f"{number}.jpg").write_bytes((data / "11.jpg").read_bytes())
    mvsa(tmp_path / "mvsa", tmp_path / "out")
    homes = [split for split in SPLITS for name in texts_of(tmp_path / "out", split)[2] if 11 <= int(name) < 20]
    assert len(homes) == 9
    assert len(set(homes)) == 1
    lists = make_lists(
        tmp_path / "lists", {"train": list(range(1, 28, 2)), "dev": list(range(2, 29, 2)), "test": [10, 20, 30]}
    )
    with pytest.raises(DataError, match=r"test.jsonl:1: clip 10 is listed before, at .*dev.jsonl:5"):
        mvsa(tmp_path / "mvsa", tmp_path / "again", lists_dir=lists)
    lists = make_lists(
        tmp_path / "lists", {"train": list(range(1, 28, 2)), "dev": [2, 12, 22, 24], "test": [10, 20, 30]}
    )
    lines: list[str] = []
    info = mvsa(tmp_path / "mvsa", tmp_path / "again", lists_dir=lists, options={"warn": lines.append})
    assert info.samples == {"train": 14, "val": 4, "test": 3}
    assert info.source["shared_pictures"] == {"train, val": 1}
    assert lines == [f"{lists}: 9 labelled pairs are in no split", "train, val: 1 picture in both, byte for byte"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5\tgood,bad", r"labelResultAll.txt:2: '5\\tgood,bad' is not a number, a tab and two labels"),
        ("x\tneutral,positive", "is not a number"),
        ("../5\tneutral,positive", "is not a number"),
        ("5\tneutral", "is not a number"),
        ("7\tneutral,neutral\n007\tneutral,neutral", r"labelResultAll.txt:3: clip 7 is listed before, at .*:2"),
    ],
)
def test_a_line_that_is_no_label_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "labelResultAll.txt").write_text(f"ID\ttext,image\n{line}\n")
    with pytest.raises(DataError, match=message):
        read_labels(tmp_path / "labelResultAll.txt")


def test_the_two_rules_make_one_label_of_two(tmp_path: Path) -> None:
    lines = [f"{3 * a + b}\t{MOODS[a]},{MOODS[b]}" for a in range(3) for b in range(3)]
    (tmp_path / "labelResultAll.txt").write_text("\n".join(lines))
    tweets = read_labels(tmp_path / "labelResultAll.txt")
    assert labels_of(tweets, "agreed") == {"0": "negative", "4": "neutral", "8": "positive"}
    assert labels_of(tweets, "majority") == {
        "0": "negative",
        "1": "negative",
        "3": "negative",
        "4": "neutral",
        "5": "positive",
        "7": "positive",
        "8": "positive",
    }


def test_a_list_for_the_other_rule_and_an_absent_download_are_refused(tmp_path: Path) -> None:
    make_mvsa(tmp_path / "mvsa")
    lists = make_lists(tmp_path / "lists", {"train": [1, 31], "dev": [2], "test": [3]})
    with pytest.raises(
        DataError, match=r"train.jsonl:2: pair 31 has no label under dataset.prepare.labelling = agreed"
    ):
        mvsa(tmp_path / "mvsa", tmp_path / "out", lists_dir=lists)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"labelResultAll.txt is missing; name the folder that holds it"):
        mvsa(tmp_path / "empty", tmp_path / "out")


def test_the_middle_square_of_a_picture_is_kept() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 200
    assert (covered(image, 4) == 200).all()
    assert covered(image.transpose(1, 0, 2), 2).tolist() == np.full((2, 2, 3), 200).tolist()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_pictures_are_read(tmp_path: Path, mode: str) -> None:
    image = pytest.importorskip("PIL.Image", reason="writes JPEG files that OpenCV cannot")
    make_food101(tmp_path / "food")
    path = tmp_path / "food" / "images" / "train" / "apple_pie" / "apple_pie_0.jpg"
    with image.open(path) as picture:
        picture.convert(mode).save(path)
    assert food(tmp_path / "food", tmp_path / "out").source["skipped"] == []


def test_a_truncated_picture_is_skipped(tmp_path: Path) -> None:
    make_food101(tmp_path / "food")
    path = write_jpeg(tmp_path / "food" / "images" / "train" / "apple_pie" / "apple_pie_0.jpg", 0, 0, size=(200, 200))
    assert cv2.imread(str(path)) is not None
    path.write_bytes(path.read_bytes()[:-300])
    info = food(tmp_path / "food", tmp_path / "out", options={"max_bad": 0.1})
    assert [(s["id"], s["reason"]) for s in info.source["skipped"]] == [("apple_pie_0", "corrupt")]
