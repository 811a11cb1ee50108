from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.arrays_tree import CLASSES, SIZES, Save, ids, labelled, prepare, samples, write
from support.command_line import ROOT, invoke, tree

from data_prep.sources import npz
from data_prep.sources.array_files import kind_of, read_contents
from drcli.data.format import SPLITS
from drcli.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def _same_torch() -> Iterator[None]:
    """A run in deterministic mode leaves torch as other tests expect it."""
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


@pytest.fixture
def in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "CHUNK_BYTES", 1000)


def fortran(path: Path, **arrays: np.ndarray) -> None:
    changed: dict[str, Any] = {name: np.asfortranarray(array) for name, array in arrays.items()}
    np.savez(path, **changed)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, fortran])
def test_rows_come_out_as_they_went_in(tmp_path: Path, save: Save, in_small_pieces: None) -> None:
    info = prepare(write(tmp_path / "in", save=save), tmp_path / "out")
    assert (info.name, info.classes, info.rows, info.samples) == ("arrays", CLASSES, SIZES, SIZES)
    assert {m: (spec.shape, spec.dtype, spec.kind) for m, spec in info.modalities.items()} == {
        "audio": ((1, 8, 8), "float32", "array"),
        "visual": ((3, 8, 8), "uint8", "array"),
        "text": ((4, 5), "float16", "sequence"),
    }
    for split in SPLITS:
        given = samples(split)
        padding = np.arange(4) >= given["text_lengths"][:, None]
        given["text"][padding] = 0
        for name in ("audio", "visual", "text", "text_lengths"):
            np.testing.assert_array_equal(np.load(tmp_path / "out" / split / f"{name}.npy"), given[name])
        assert [CLASSES[label] for label in np.load(tmp_path / "out" / split / "labels.npy")] == list(given["labels"])
        assert ids(tmp_path / "out", split) == [f"{split}-{row:06d}" for row in range(SIZES[split])]


def test_statistics_are_those_of_train(tmp_path: Path) -> None:
    found = prepare(write(tmp_path / "in"), tmp_path / "out").modalities
    given = samples("train")
    assert found["audio"].mean == pytest.approx([given["audio"].mean(dtype=np.float64)])
    assert found["visual"].std == pytest.approx([given["visual"].std(dtype=np.float64)])
    valid = given["text"].astype(np.float64)[np.arange(4) < given["text_lengths"][:, None]]
    assert found["text"].mean == pytest.approx(valid.mean(axis=0))


def test_two_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    source = write(tmp_path / "in", without="val")
    for name in ("one", "two"):
        prepare(source, tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize(
    ("given", "stored"),
    [("float16", "float16"), ("uint8", "uint8"), (">f4", "float32"), ("float64", "float32"), ("int64", "float32")],
)
def test_small_types_stay_and_the_others_become_float32(tmp_path: Path, given: str, stored: str) -> None:
    changed: dict[str, Any] = {split: {"audio": (100 * abs(samples(split)["audio"])).astype(given)} for split in SPLITS}
    info = prepare(write(tmp_path / "in", **changed), tmp_path / "out")
    assert info.modalities["audio"].dtype == stored
    found = np.load(tmp_path / "out/test/audio.npy")
    np.testing.assert_array_equal(found, changed["test"]["audio"].astype(stored))


@pytest.mark.parametrize(
    ("shape", "asked", "kind"),
    [
        ((5,), None, "vector"),
        ((7, 5), None, "sequence"),
        ((1, 5), "sequence", "sequence"),
        ((7, 5), "array", "array"),
        ((2, 8, 8), None, "array"),
        ((7, 3, 8, 8), None, "frames"),
        ((7, 2, 8, 8), None, "flow"),
        ((7, 2, 8, 8), "frames", "frames"),
    ],
)
def test_the_number_of_axes_says_what_they_are_unless_the_settings_do(
    shape: tuple[int, ...], asked: Any, kind: str
) -> None:
    assert kind_of(npz.Stored(Path(), "m", (9, *shape), np.dtype("f4"), is_fortran=False), asked) == kind


def test_a_line_tells_what_each_array_is_taken_for(tmp_path: Path) -> None:
    notes: list[str] = []
    prepare(write(tmp_path / "in"), tmp_path / "out", note=notes.append)
    assert notes[0] == "audio: array (C, H, W) = (1, 8, 8), stored as float32"
    assert notes[2] == "text: sequence (L, D) = (4, 5), stored as float16"


def test_channels_that_seem_to_come_last_are_pointed_out(tmp_path: Path) -> None:
    warnings: list[str] = []
    changed: dict[str, Any] = {split: {"visual": np.moveaxis(samples(split)["visual"], 1, -1)} for split in SPLITS}
    prepare(write(tmp_path / "in", **changed), tmp_path / "out", warn=warnings.append)
    (line,) = warnings
    assert line.startswith("visual: (8, 8, 3) looks as if channels came last")


@pytest.mark.parametrize(
    ("values", "classes"),
    [((10, 9, -2), ("-2", "9", "10")), (("10", "9", "B"), ("10", "9", "B")), ((b"b", b"a", b"c"), ("a", "b", "c"))],
)
def test_classes_are_in_ascending_order(tmp_path: Path, values: tuple[Any, ...], classes: tuple[str, ...]) -> None:
    columns = {split: np.resize(np.array(values), SIZES[split]) for split in SPLITS}
    info = prepare(write(tmp_path / "in", **labelled(columns)), tmp_path / "out")
    assert info.classes == classes
    found = np.load(tmp_path / "out/test/labels.npy")[:3]
    assert [classes[label] for label in found] == [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def test_padding_may_hold_anything_and_is_stored_as_zeros(tmp_path: Path) -> None:
    changed: dict[str, Any] = {}
    for split in SPLITS:
        given = samples(split)
        given["text"][np.arange(4) >= given["text_lengths"][:, None]] = np.nan
        changed[split] = {"text": given["text"]}
    prepare(write(tmp_path / "in", **changed), tmp_path / "nan")
    prepare(write(tmp_path / "in"), tmp_path / "out")
    assert (tmp_path / "nan/train/text.npy").read_bytes() == (tmp_path / "out/train/text.npy").read_bytes()


def test_without_lengths_all_steps_are_valid(tmp_path: Path) -> None:
    prepare(write(tmp_path / "in", every={"text_lengths": None}), tmp_path / "out")
    assert np.load(tmp_path / "out/val/text_lengths.npy").tolist() == [4] * SIZES["val"]


def test_val_is_drawn_from_train_by_class_and_said(tmp_path: Path) -> None:
    notes: list[str] = []
    source = write(tmp_path / "in", without="val")
    info = prepare(source, tmp_path / "out", val_share=0.2, note=notes.append)
    assert info.rows == {"train": 24, "val": 6, "test": 12}
    assert info.source["files"] == {"train": "train.npz", "val": "train.npz", "test": "test.npz"}
    assert notes[-1].startswith("no val.npz: 6 of the 30 samples of train.npz become val, stratified by class")
    given, rows = samples("train"), {s: [int(name[-6:]) for name in ids(tmp_path / "out", s)] for s in SPLITS}
    assert sorted(rows["train"] + rows["val"]) == list(range(30))
    for split in ("train", "val"):
        labels = np.load(tmp_path / "out" / split / "labels.npy")
        assert np.bincount(labels).tolist() == [info.rows[split] // 3] * 3
        assert [CLASSES[label] for label in labels] == given["labels"][rows[split]].tolist()
        np.testing.assert_array_equal(np.load(tmp_path / "out" / split / "audio.npy"), given["audio"][rows[split]])
    prepare(source, tmp_path / "other", val_share=0.2, seed=1)
    assert ids(tmp_path / "other", "val") != ids(tmp_path / "out", "val")


def test_limit_keeps_shares_and_rows(tmp_path: Path, in_small_pieces: None) -> None:
    info = prepare(write(tmp_path / "in"), tmp_path / "out", limit=34)
    assert info.rows == {"train": 20, "val": 6, "test": 8}
    rows = [int(name[-6:]) for name in ids(tmp_path / "out", "train")]
    np.testing.assert_array_equal(np.load(tmp_path / "out/train/visual.npy"), samples("train")["visual"][rows])


def test_other_contents_are_another_dataset(tmp_path: Path) -> None:
    prepare(write(tmp_path / "in"), tmp_path / "out")
    write(tmp_path / "in", val={"audio": samples("val")["audio"] + 1})
    with pytest.raises(DataError, match=r"holds another prepared dataset \(contents of --source"):
        prepare(tmp_path / "in", tmp_path / "out")


OBJECTS = np.array([None, "a"], dtype=object)
SOUND = samples("test")["audio"]
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no labels": ("val", {"labels": None}, "array 'labels' is missing (there: audio, visual, text, text_lengths)"),
    "2-d labels": ("test", {"labels": np.eye(12)}, "array 'labels' is float64 (12, 12); it must be (N,) integers"),
    "real labels": ("test", {"labels": np.ones(12)}, "array 'labels' is float64 (12,); it must be (N,) integers or"),
    "objects": ("train", {"labels": OBJECTS}, "array 'labels' holds Python objects, which are not loaded because"),
    "sound of objects": ("test", {"audio": OBJECTS}, "array 'audio' holds Python objects"),
    "no samples": ("val", {"labels": np.empty(0, int)}, "array 'labels' is empty; every split needs samples"),
    "one class": ("train", {"labels": np.zeros(30, int)}, "array 'labels' has one class only (0)"),
    "numbers and text": ("test", {"labels": np.zeros(12, int)}, "array 'labels' is not of the type it has in train"),
    "new class": (
        "test",
        {"labels": np.array(["yak"] * 12)},
        "array 'labels' has classes that train.npz lacks: 'yak'",
    ),
    "few rows": ("val", {"audio": SOUND[:8]}, "array 'audio' has 8 rows, 'labels' has 9; make them equally many"),
    "missing": ("test", {"visual": None}, "array 'visual' is missing, but train.npz has it; add it"),
    "more": ("test", {"more": SOUND}, "array 'more' is not in train.npz; add it there, or leave it out here"),
    "other shape": (
        "test",
        {"audio": SOUND[..., :7]},
        "array 'audio' has samples float32 (1, 8, 7), in train.npz they",
    ),
    "other type": ("test", {"audio": SOUND.astype("f8")}, "array 'audio' has samples float64 (1, 8, 8), in train.npz"),
    "NaN": ("test", {"audio": np.where(np.arange(12)[:, None, None, None] == 7, np.float32(np.nan), SOUND)}, "row 7 "),
    "infinite": ("test", {"audio": np.full_like(SOUND, np.inf)}, "array 'audio' has values that are NaN, infinite or"),
    "yes and no": ("test", {"audio": SOUND > 0}, "array 'audio' has the type bool; a modality holds real numbers"),
    "complex": ("test", {"audio": SOUND * 1j}, "array 'audio' has the type complex64"),
    "empty samples": ("test", {"audio": SOUND[:, :0]}, "array 'audio' has the shape (12, 0, 8, 8), which holds no"),
    "a number": ("test", {"audio": np.float32(1)}, "array 'audio' has the shape (), which holds no samples"),
    "long": ("val", {"text_lengths": np.full(9, 5)}, "array 'text_lengths' runs from 5 to 5; 'text' has 4 steps"),
    "below 0": ("val", {"text_lengths": np.arange(-1, 8)}, "array 'text_lengths' runs from -1 to 7; 'text' has 4"),
    "all padding": ("val", {"text_lengths": np.zeros(9, int)}, "array 'text_lengths' runs from 0 to 0"),
    "real lengths": ("val", {"text_lengths": np.ones(9)}, "array 'text_lengths' is float64 (9,); it must be (N,) int"),
    "stray lengths": ("val", {"text": None}, "array 'text_lengths' holds the lengths of 'text', which is missing"),
    "labels only": ("val", dict.fromkeys(("audio", "visual", "text", "text_lengths")), "holds no modality; the file"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_message(tmp_path: Path, case: str) -> None:
    split, changed, message = BAD[case]
    alone: dict[str, Any] = {split: changed}
    source = write(tmp_path / "in", **alone)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "out")
    assert str(caught.value).startswith(f"{source / split}.npz: ")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("name", "array", "settings", "message"),
    [
        ("x", np.ones(5), {"x": "sequence"}, "array 'x' has samples (5,), but dataset.prepare.kinds.x = sequence"),
        ("x", np.ones(()), {}, "array 'x' has the shape (N,); it must be (N, D), (N, L, D), (N, C, H, W) or (N, T, C"),
        ("x", np.ones((1, 2, 3, 4, 5)), {}, "array 'x' has the shape (N, 1, 2, 3, 4, 5); it must be"),
        ("x", np.full((2, 2), 1e39), {}, "array 'x' has values that are NaN, infinite or beyond float32, in row 0"),
        ("x", np.ones((2, 2)), {"x": "frames"}, "array 'x' has samples (2, 2), but dataset.prepare.kinds.x = frames"),
        ("x", np.ones((2, 3, 4, 4)), {"x": "flow"}, "kinds.x = flow means (T, 2, H, W); change the setting"),
        ("x_lengths", np.int64(1), {}, "array 'x_lengths' holds the lengths of 'x', which is missing"),
        ("audio_lengths", np.int64(1), {}, "'audio_lengths' is not used: 'audio' is not a sequence; leave it out"),
        ("../x", np.ones((2, 2)), {}, "array '../x' has no name for a modality; letters, digits, _ and - are allowed"),
    ],
)
def test_an_array_that_is_no_modality_is_refused(
    tmp_path: Path, name: str, array: np.ndarray, settings: dict[str, str], message: str
) -> None:
    added: dict[str, Any] = {split: {name: np.broadcast_to(array, (SIZES[split], *array.shape))} for split in SPLITS}
    with pytest.raises(DataError, match=r"in/train\.npz: ") as caught:
        prepare(write(tmp_path / "in", **added), tmp_path / "out", kinds=settings)
    assert message in str(caught.value).replace("(30,", "(N,")


def test_a_kind_of_an_array_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"kinds names 'txt', which train.npz lacks; .* Did you mean text\?"):
        prepare(write(tmp_path / "in"), tmp_path / "out", kinds={"txt": "sequence"})


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_file_is_named_with_what_it_holds(tmp_path: Path, split: str) -> None:
    with pytest.raises(DataError, match=rf"in/{split}\.npz: no such file; the folder must hold .* labels \(N,\), and"):
        prepare(write(tmp_path / "in", without=split), tmp_path / "out")


@pytest.mark.parametrize("split", SPLITS)
def test_a_pipe_in_the_place_of_a_file_is_refused_without_waiting(tmp_path: Path, split: str) -> None:
    os.mkfifo(write(tmp_path / "in", without=split) / f"{split}.npz")
    with pytest.raises(DataError, match=rf"in/{split}\.npz: cannot be read \(not a regular file\)"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_a_val_that_is_a_broken_link_is_not_drawn_from_train(tmp_path: Path) -> None:
    (write(tmp_path / "in", without="val") / "val.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(DataError, match=r"in/val\.npz: cannot be read \(No such file or directory\)"):
        prepare(tmp_path / "in", tmp_path / "out")


def test_a_val_smaller_than_the_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"val would have 2 samples for 3 classes.* dataset\.prepare\.val_share"):
        prepare(write(tmp_path / "in", without="val"), tmp_path / "out", val_share=0.05)


def test_a_class_that_test_lacks_is_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    prepare(write(tmp_path / "in", test={"labels": np.array(["cat"] * 12)}), tmp_path / "out", warn=warnings.append)
    assert warnings == ["classes dog, emu are absent from test"]


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_python_objects_in_arrays_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    source = write(tmp_path / "in", test={"audio": np.array([Harmful(tmp_path / "ran")] * 12, dtype=object)})
    with pytest.raises(DataError, match="'audio' holds Python objects"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"labels,audio\n1,2\n", b"\x93NUMPY\x01\x00"])
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    source = write(tmp_path / "in")
    (source / "val.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"val\.npz: is not a readable \.npz file .*; save the file again with"):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_damage_gives_other_values_or_a_traceback(tmp_path: Path, save: Save, in_small_pieces: None) -> None:
    path = write(tmp_path / "in", save=save) / "test.npz"
    whole, given = path.read_bytes(), samples("test")
    messages = []
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            contents = read_contents(path)
            found = {name: np.concatenate([rows for _, rows in npz.read_rows(contents[name])]) for name in given}
        except DataError as error:
            messages.append(str(error))
        else:
            assert all(np.array_equal(found[name], given[name]) for name in given)
    assert len(messages) > 50
    assert all(message.startswith(f"{path}: ") for message in messages)


def check_trained(tmp_path: Path, source: Path, *more: str, modalities: set[str]) -> None:
    """Prepare and train by the command line; both methods end with scores, and D&R had its event."""
    root = f"dataset.root={tmp_path / 'data'}"
    prepared = json.loads(invoke("prepare", "arrays", root, "--source", source, "--json").stdout)
    assert modalities <= set(prepared["modalities"])
    small = ["training.epochs=3", "training.batch_size=8", "methods.diagnose_relearn.every=1", *more]
    options = ["--method", "joint,diagnose_relearn", "--seeds", "0", "--device", "cpu", "--out", tmp_path / "runs"]
    runs = json.loads(invoke("train", "arrays", root, *small, *options, "--json").stdout)["runs"]
    assert [run["method"] for run in runs] == ["joint", "diagnose_relearn"]
    assert all(set(run["unimodal"]) == modalities for run in runs)
    (event,) = map(json.loads, (Path(runs[1]["run_dir"]) / "events.jsonl").read_text().splitlines())
    assert set(event["modalities"]) == modalities


def test_the_shipped_recipe_trains_on_prepared_arrays(tmp_path: Path) -> None:
    check_trained(tmp_path, write(tmp_path / "in", without="val"), modalities={"audio", "visual"})


def test_sequences_with_lengths_train_too(tmp_path: Path) -> None:
    blocks = "{visual: {backbone: resnet_small, width: 4}, text: {backbone: transformer, layers: 1}}"
    check_trained(tmp_path, write(tmp_path / "in"), f"modalities={blocks}", modalities={"visual", "text"})


def test_vectors_train_too(tmp_path: Path) -> None:
    added: dict[str, Any] = {split: {"x": samples(split)["text"][:, 0]} for split in SPLITS}
    blocks = "{visual: {backbone: mlp, hidden: [4]}, x: {backbone: mlp}}"
    check_trained(tmp_path, write(tmp_path / "in", **added), f"modalities={blocks}", modalities={"visual", "x"})


def test_the_snippet_of_the_readme_writes_what_prepare_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("### Your own arrays\n")[2]
    snippet = section.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})  # without the section it writes nothing, and prepare finds no folder
    info = prepare(tmp_path / "my-arrays", tmp_path / "out")
    assert list(info.modalities) == ["audio", "visual"]
