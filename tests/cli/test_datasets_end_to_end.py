"""From a download of the true layout to the number, through the command line, D&R event included.

The downloads are small trees with the true names, folders, containers and codecs; pictures are stored at
64 x 85 and few classes are enough. The recipes are the shipped ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.ave_tree import AVE_CLASSES, make_ave
from support.command_line import Drcli
from support.cremad_tree import ACTORS, make_cremad, stems
from support.genuine import link_cremad
from support.image_text_trees import make_food101, make_mvsa
from support.kinetics_tree import CLASSES, make_kinetics
from support.mosei_tree import humor_download, mosei_download, sarcasm_download
from support.mosi_tree import csd_download, mosi_download, utterance_download
from support.ucf101_tree import make_ucf101
from support.vggsound_tree import make_vggsound
from support.wikipedia_tree import make_wikipedia

for package in ("av", "cv2", "h5py"):
    pytest.importorskip(package, reason=f"{package} comes with drcli[media]")

Case = tuple[Callable[[Path], object], list[str], list[str]]
"""What makes the download, and what the recipe's `dataset` and the rest of it are changed to."""

SMALL_ENCODERS = [
    f"modalities.{m}.{key}" for m in ("audio", "visual") for key in ("backbone=resnet_small", "stem_stride=4")
]
SMALL = ["dataset.prepare.frame_size=[64, 85]"]
PICTURES = ["dataset.prepare.picture_size=64"]
SMALL_PICTURES = [f"modalities.visual.{key}" for key in ("backbone=resnet_small", "stem_stride=4", "size=32")]
TEXT = ["modalities.text.layers=1"]
TRAINING = ["training.epochs=3", "training.batch_size=8", "methods.diagnose_relearn.every=1"]


def many_recordings(source: Path) -> None:
    """Enough that a tenth of them, the validation split, has every emotion."""
    make_cremad(source, names=stems(sentences=("IEO", "TIE", "IOM")))


RUNS: dict[str, Case] = {
    "cremad": (many_recordings, [*SMALL, "dataset.prepare.audio=stft"], ["modalities.visual.size=32", *SMALL_ENCODERS]),
    "kinetics_sounds": (
        make_kinetics,
        [*SMALL, f"dataset.prepare.classes={json.dumps(CLASSES)}"],
        ["modalities.visual.size=32", *SMALL_ENCODERS],
    ),
    "ave": (
        make_ave,
        [*SMALL, f"dataset.prepare.classes={json.dumps(AVE_CLASSES)}"],
        ["modalities.visual.size=32", *SMALL_ENCODERS],
    ),
    "vggsound": (
        make_vggsound,
        [*SMALL, "dataset.prepare.val_share=0.4"],
        ["modalities.visual.size=32", *SMALL_ENCODERS],
    ),
    "ucf101": (
        make_ucf101,
        [*SMALL, "dataset.prepare.flow=dis", "dataset.prepare.positions=4", "dataset.prepare.val_groups=[24]"],
        [f"modalities.{m}.{key}" for m in ("rgb", "flow") for key in ("size=32", "weights=null")],
    ),
    "wikipedia": (make_wikipedia, [], []),
    "food101": (make_food101, PICTURES, [*TEXT, *SMALL_PICTURES]),
    "mvsa_single": (make_mvsa, PICTURES, [*TEXT, *SMALL_PICTURES]),
    "cmu_mosi": (mosi_download, [], [f"modalities.{m}.layers=1" for m in ("text", "audio", "visual")]),
    **{
        name: (make, [], [f"modalities.{m}.layers=1" for m in ("text", "audio", "visual")])
        for name, make in {
            "cmu_mosei": mosei_download,
            "ur_funny": humor_download,
            "mustard": sarcasm_download,
        }.items()
    },
    "cmu_mosi_utterances": (utterance_download, ["dataset.prepare.val_videos=2"], []),
}


FULL: dict[str, Case] = {
    "cremad": (many_recordings, [], []),
    "kinetics_sounds": (make_kinetics, [f"dataset.prepare.classes={json.dumps(CLASSES)}"], []),
    "ucf101": (
        make_ucf101,
        ["dataset.prepare.val_groups=[24]"],
        ["modalities.rgb.weights=null", "modalities.flow.weights=null"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_the_full_size_trains_too(name: str, drcli: Drcli, tmp_path: Path) -> None:
    """Pictures of 224 x 224, sound of the literature's shape, TV-L1 flow, ResNet-18 throughout."""
    train_from_download(name, FULL[name], drcli, tmp_path)


QUICK = ("cmu_mosi",)
"""In every test run; the others are slow, optical flow above all."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_a_download_becomes_a_trained_and_diagnosed_model(name: str, drcli: Drcli, tmp_path: Path) -> None:
    train_from_download(name, RUNS[name], drcli, tmp_path)


def train_from_download(name: str, run: Case, drcli: Drcli, tmp_path: Path) -> None:
    make, preparing, modelling = run
    (tmp_path / "download").mkdir()
    make(tmp_path / "download")
    root = f"dataset.root={tmp_path / 'data'}"
    prepared = json.loads(drcli("prepare", name, root, *preparing, "--source", tmp_path / "download", "--json").stdout)
    assert set(prepared["samples"]) == {"train", "val", "test"}
    trained = drcli(
        "train", name, root, *preparing, *modelling, *TRAINING, "--seeds", "0", "--out", tmp_path / "runs", "--json"
    )
    (done,) = json.loads(trained.stdout)["runs"]
    assert 0 <= done["test"]["accuracy"] <= 1
    assert set(done["unimodal"]) == set(prepared["modalities"])
    events = (Path(done["run_dir"]) / "events.jsonl").read_text(encoding="utf-8").splitlines()
    (event,) = map(json.loads, events)
    assert event["epoch"] == 1
    assert set(event["modalities"]) == set(prepared["modalities"])
    found = json.loads(drcli("diagnose", done["checkpoint"], "--json").stdout)
    assert set(found["modalities"]) == set(prepared["modalities"])


@pytest.mark.slow
def test_cremad_speakers_is_prepared_and_trained_by_its_recipe(shared: Path, drcli: Drcli, tmp_path: Path) -> None:
    link_cremad(shared, tmp_path / "clone", ACTORS)
    small = ["dataset.prepare.frame_size=[48, 64]", f"dataset.root={tmp_path / 'data'}"]
    made = json.loads(drcli("prepare", "cremad_speakers", *small, "--source", tmp_path / "clone", "--json").stdout)
    assert made["settings"]["split"] == "speaker"
    assert made["samples"] == {"train": 18, "val": 6, "test": 6}
    encoders = [
        f"modalities.{m}.{key}" for m in ("audio", "visual") for key in ("backbone=resnet_small", "stem_stride=4")
    ]
    done = drcli(
        *("train", "cremad_speakers", *small, *encoders, "modalities.visual.size=32", "training.epochs=1"),
        *("--method", "joint", "--seeds", "0", "--out", tmp_path / "runs", "--json"),
    )
    (run,) = json.loads(done.stdout)["runs"]
    assert set(run["unimodal"]) == {"audio", "visual"}
    assert 0 <= run["test"]["accuracy"] <= 1


@pytest.mark.slow
def test_noise_on_the_waveform_of_a_recipe_reaches_the_prepared_sound(drcli: Drcli, tmp_path: Path) -> None:
    make_cremad(tmp_path / "download")
    made = [*SMALL, "--source", tmp_path / "download", "--json"]
    clean: dict[str, Any] = json.loads(drcli("prepare", "cremad", f"dataset.root={tmp_path / 'a'}", *made).stdout)
    noise = "corrupt.audio={snr_db: 0, domain: waveform, splits: [train]}"
    noisy: dict[str, Any] = json.loads(
        drcli("prepare", "cremad", f"dataset.root={tmp_path / 'b'}", noise, *made).stdout
    )
    assert clean["settings"]["waveform_snr_db"] is None
    assert noisy["settings"]["waveform_snr_db"] == 0
    for split, differs in (("train", True), ("test", False)):
        sounds = [(tmp_path / folder / split / "audio.npy").read_bytes() for folder in "ab"]
        assert (sounds[0] != sounds[1]) is differs


def test_the_sdks_files_are_enough_for_cmu_mosi(drcli: Drcli, tmp_path: Path) -> None:
    source = tmp_path / "download"
    source.mkdir()
    csd_download(source)
    made = drcli("prepare", "cmu_mosi", f"dataset.root={tmp_path / 'data'}", "--source", source, "--json")
    assert set(json.loads(made.stdout)["modalities"]) == {"text", "audio", "visual"}
