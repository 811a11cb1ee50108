from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mosi_tree as tree

from data_prep.cmu_mosi import CmuMosi
from data_prep.sources.mosi_csd import average
from data_prep.sources.mosi_tables import MOST_VALUES, Stream, opened
from drcli.data.format import DatasetInfo
from drcli.errors import DataError

VIDEO = tree.csd_fold_videos()[0]


def prepare(source: Path, out: Path, **options: Any) -> DatasetInfo:
    return CmuMosi(CmuMosi.Settings()).run(source=source, out=out, **options)


def change(folder: Path, name: str, video: str, values: tuple[Any, Any] | None) -> Path:
    """The download with one video of one stream replaced, or left out."""
    for stream, videos in tree.csd_videos(tree.csd_fold_videos()).items():
        if stream == name and values is None:
            del videos[video]
        elif stream == name and values is not None:
            videos[video] = values
        tree.write_csd(folder / f"{stream}.csd", videos)
    return folder


def test_rows_are_averaged_over_the_words_they_overlap() -> None:
    edges = np.arange(7) * 0.5
    rows = Stream(np.arange(6.0)[:, None], np.stack([edges[:-1], edges[1:]], axis=1))
    words = np.array([[0.0, 1.0], [1.0, 1.6], [2.9, 9.0], [4.0, 5.0]])
    # Rows 0 and 1; rows 2 and 3, of which 3 begins within the word; row 5; none.
    means, has_rows = average(rows, words)
    assert means.tolist() == [[0.5], [2.5], [5.0], [0.0]]
    assert has_rows.tolist() == [True, True, True, False]


def test_segments_hold_their_words_and_the_means_over_them(tmp_path: Path) -> None:
    info = prepare(tree.csd_download(tmp_path / "download"), tmp_path / "out")
    assert info.rows == {"train": 24, "val": 12, "test": 12}
    assert info.source["aligned"] is True
    assert set(info.source["decoders"]) == {"h5py"}
    streams = tree.csd_videos(tree.csd_fold_videos())
    ids = (tmp_path / "out/train/ids.txt").read_text().splitlines()
    assert ids[:3] == [f"{VIDEO}[{k}]" for k in range(3)]
    for k in range(3):
        row = ids.index(f"{VIDEO}[{k}]")
        arrays = {m: np.load(tmp_path / f"out/train/{m}.npy")[row] for m in ("text", "audio", "visual")}
        assert [np.load(tmp_path / f"out/train/{m}_lengths.npy")[row] for m in arrays] == [3, 3, 3]
        vectors = streams["CMU_MOSI_TimestampedWordVectors"][VIDEO][0]
        np.testing.assert_allclose(arrays["text"], vectors[4 * k : 4 * k + 3], rtol=1e-6)
        for m, name, per_word in (("audio", "COVAREP", 5), ("visual", "Visual_Facet_42", 2)):
            rows = streams[f"CMU_MOSI_{name}"][VIDEO][0][4 * per_word * k :][: 3 * per_word]
            np.testing.assert_allclose(arrays[m], rows.reshape(3, per_word, -1).mean(axis=1), rtol=1e-6)


def test_labels_are_those_of_the_opinions(tmp_path: Path) -> None:
    prepare(tree.csd_download(tmp_path / "download"), tmp_path / "out")
    streams = tree.csd_videos(tree.csd_fold_videos())["CMU_MOSI_Opinion_Labels"]
    expected = {f"{v}[{k}]": int(rows[0][k, 0] >= 0) for v, rows in streams.items() for k in range(3)}
    for split in ("train", "val", "test"):
        ids = (tmp_path / "out" / split / "ids.txt").read_text().splitlines()
        assert np.load(tmp_path / "out" / split / "labels.npy").tolist() == [expected[name] for name in ids]


def test_old_spellings_are_known_and_words_may_be_missing(tmp_path: Path) -> None:
    source, lines = tree.csd_download(tmp_path / "download"), list[str]()
    (source / "CMU_MOSI_Visual_Facet_42.csd").rename(source / "CMU_MOSI_VisualFacet_4.1.csd")
    (source / "CMU_MOSI_TimestampedWords.csd").unlink()
    info = prepare(source, tmp_path / "out", warn=lines.append)
    assert info.source["files"]["visual"] == "CMU_MOSI_VisualFacet_4.1.csd"
    assert set(np.load(tmp_path / "out/train/text_lengths.npy")) == {4}  # the silence counts as a word
    assert any("silences cannot be told apart from words" in line for line in lines)


def test_facets_of_version_42_come_before_41(tmp_path: Path) -> None:
    source = tree.csd_download(tmp_path / "download")
    (source / "CMU_MOSI_Visual_Facet_41.csd").write_bytes(b"never read")
    assert prepare(source, tmp_path / "out").source["files"]["visual"] == "CMU_MOSI_Visual_Facet_42.csd"


def test_an_infinite_row_makes_its_words_value_zero(tmp_path: Path) -> None:
    features, intervals = tree.csd_videos([VIDEO])["CMU_MOSI_COVAREP"][VIDEO]
    features[0, 0], features[1, 1], features[2, 1], features[5, 2] = -np.inf, np.inf, -np.inf, np.nan
    info = prepare(change(tmp_path / "download", "CMU_MOSI_COVAREP", VIDEO, (features, intervals)), tmp_path / "out")
    assert info.source["not_finite"]["audio"] == {"-inf": 1, "+inf": 0, "NaN": 2}
    audio = np.load(tmp_path / "out/train/audio.npy")[0]
    assert [audio[0, 0], audio[0, 1], audio[1, 2]] == [0, 0, 0]
    assert np.count_nonzero(audio) == audio.size - 3


@pytest.mark.parametrize("name", [name for name in tree.CSD_NAMES if "TimestampedWords" not in name])
def test_a_missing_stream_is_refused_by_name(tmp_path: Path, name: str) -> None:
    source = tree.csd_download(tmp_path / "download")
    (source / f"{name}.csd").unlink()
    with pytest.raises(
        DataError, match=rf"the stream of \w+ is missing; it is .*{name.removeprefix('CMU_MOSI_')}\.csd"
    ):
        prepare(source, tmp_path / "out")


def test_a_video_without_a_stream_is_skipped_within_the_limit(tmp_path: Path) -> None:
    source, lines = change(tmp_path / "download", "CMU_MOSI_COVAREP", VIDEO, None), list[str]()
    with pytest.raises(DataError, match=r"3 of 48 segments cannot be used, more than the 1 % of --max-bad: .*\[0\]"):
        prepare(source, tmp_path / "out")
    info = prepare(source, tmp_path / "out", max_bad=0.1, warn=lines.append)
    assert info.rows["train"] == 21
    assert f"skipped {VIDEO}[0]: missing stream (audio)" in lines
    assert [item["id"] for item in info.source["skipped"]] == [f"{VIDEO}[{k}]" for k in range(3)]


def test_the_video_that_the_official_files_lack_does_not_count(tmp_path: Path) -> None:
    missing = "c5xsKMxpXnc"
    videos = [*tree.csd_fold_videos(), missing]
    for name, streams in tree.csd_videos(videos).items():
        if name == "CMU_MOSI_COVAREP":
            del streams[missing]
        tree.write_csd(tmp_path / "download" / f"{name}.csd", streams)
    info = prepare(tmp_path / "download", tmp_path / "out", max_bad=0.0)
    assert [item["detail"] for item in info.source["skipped"]] == ["audio"] * 3
    assert info.rows["val"] == 12


def test_an_opinion_without_words_is_skipped(tmp_path: Path) -> None:
    labels = np.array([[1.0], [-1.0]]), np.array([[0.0, 2.0], [90.0, 91.0]])
    info = prepare(change(tmp_path / "download", "CMU_MOSI_Opinion_Labels", VIDEO, labels), tmp_path / "out")
    assert info.source["skipped"] == [{"id": f"{VIDEO}[1]", "reason": "no words", "detail": "train"}]


@pytest.mark.parametrize(
    ("features", "intervals", "message"),
    [
        (np.ones((3, 5)), np.ones((2, 2)), r"has features \(3, 5\) and intervals \(2, 2\)"),
        (np.ones(3), np.ones((3, 2)), r"has features \(3,\) and intervals \(3, 2\)"),
        (np.ones((3, 5)), np.full((3, 2), np.nan), "expected .* in seconds"),
        (np.array([[b"a"]] * 3), np.ones((3, 2)), "cannot be read"),
    ],
)
def test_streams_whose_rows_and_times_disagree_are_refused(
    tmp_path: Path, features: Any, intervals: Any, message: str
) -> None:
    source = change(tmp_path / "download", "CMU_MOSI_COVAREP", VIDEO, (features, intervals))
    with pytest.raises(DataError, match=message) as caught:
        prepare(source, tmp_path / "out")
    assert f"CMU_MOSI_COVAREP.csd: {VIDEO} " in str(caught.value)


def test_a_width_that_changes_is_refused(tmp_path: Path) -> None:
    values = np.ones((60, 3)), tree.csd_videos([VIDEO])["CMU_MOSI_COVAREP"][VIDEO][1]
    with pytest.raises(DataError, match="audio has several widths, 3, 5"):
        prepare(change(tmp_path / "download", "CMU_MOSI_COVAREP", VIDEO, values), tmp_path / "out")


@pytest.mark.parametrize("video", ["AAAAAAAAAAA", f"{VIDEO}[0]"])
def test_a_video_of_no_fold_is_refused(tmp_path: Path, video: str) -> None:
    labels = tree.csd_videos([VIDEO])["CMU_MOSI_Opinion_Labels"][VIDEO]
    with pytest.raises(DataError, match="is in none of the standard folds of CMU-MOSI"):
        prepare(change(tmp_path / "download", "CMU_MOSI_Opinion_Labels", video, labels), tmp_path / "out")


@pytest.mark.parametrize("value", [np.nan, 4.0])
def test_a_label_that_is_no_sentiment_is_refused(tmp_path: Path, value: float) -> None:
    labels = np.array([[value]]), np.array([[0.0, 2.0]])
    with pytest.raises(DataError, match=r"label of train segment .*\[0\] is (nan|4), expected -3 \.\.\. 3"):
        prepare(change(tmp_path / "download", "CMU_MOSI_Opinion_Labels", VIDEO, labels), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, content: bytes) -> None:
    source = tree.csd_download(tmp_path / "download")
    (source / "CMU_MOSI_COVAREP.csd").write_bytes(content)
    with pytest.raises(DataError, match=r"CMU_MOSI_COVAREP\.csd: not a readable HDF5 file"):
        prepare(source, tmp_path / "out")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    source = tree.csd_download(tmp_path / "download")
    path = source / "CMU_MOSI_COVAREP.csd"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"CMU_MOSI_COVAREP\.csd: "):
        prepare(source, tmp_path / "out")


def test_another_hdf5_file_is_refused(tmp_path: Path) -> None:
    import h5py

    source = tree.csd_download(tmp_path / "download")
    with h5py.File(source / "CMU_MOSI_COVAREP.csd", "w") as file:
        file["other"] = [1, 2]
    with pytest.raises(DataError, match=r"CMU_MOSI_COVAREP\.csd: no <name>/data in this HDF5 file"):
        prepare(source, tmp_path / "out")


def moved(name: str, change_times: Any, videos: list[str] | None = None) -> dict[str, dict[str, tuple[Any, Any]]]:
    """All streams, the intervals of one of them changed in some videos, or in all."""
    streams = tree.csd_videos(tree.csd_fold_videos())
    for video in videos or tree.csd_fold_videos():
        features, intervals = streams[name][video]
        streams[name][video] = features, change_times(intervals)
    return streams


def write_all(folder: Path, streams: dict[str, dict[str, tuple[Any, Any]]]) -> Path:
    for name, videos in streams.items():
        tree.write_csd(folder / f"{name}.csd", videos)
    return folder


@pytest.mark.parametrize("name", ["CMU_MOSI_COVAREP", "CMU_MOSI_Visual_Facet_42"])
def test_rows_that_overlap_no_word_of_any_video_are_refused(tmp_path: Path, name: str) -> None:
    source = write_all(tmp_path / "download", moved(name, lambda times: times + 1000))
    with pytest.raises(DataError, match=rf"{name}.csd: none of its rows overlaps any of the 144 words of CMU_MOSI_"):
        prepare(source, tmp_path / "out")


def test_words_outside_all_segments_are_refused(tmp_path: Path) -> None:
    source = write_all(tmp_path / "download", moved("CMU_MOSI_Opinion_Labels", lambda times: times * 1000 + 1000))
    with pytest.raises(DataError, match=r"Opinion_Labels.csd: no word of CMU_MOSI_TimestampedWordVectors.csd lies in"):
        prepare(source, tmp_path / "out")


def test_segments_none_of_whose_words_has_a_row_are_skipped_and_words_without_rows_counted(tmp_path: Path) -> None:
    # All sounds come 2.5 s late: the words of the first opinion have none, and one of the three words of the second,
    # from 2 to 2.5 s; silence follows the third word of each.
    source = write_all(tmp_path / "download", moved("CMU_MOSI_COVAREP", lambda times: times + 2.5, [VIDEO]))
    lines: list[str] = []
    with pytest.raises(DataError, match=rf"1 of 48 segments cannot be used.*{VIDEO}\[0\]: no rows \(audio\)"):
        prepare(source, tmp_path / "out")
    info = prepare(source, tmp_path / "out", max_bad=0.1, warn=lines.append)
    assert info.source["skipped"] == [{"id": f"{VIDEO}[0]", "reason": "no rows", "detail": "audio"}]
    assert "audio: 4 of 144 words have no row that overlaps them; their values are 0" in lines
    assert not any(line.startswith("visual") for line in lines)
    ids = (tmp_path / "out/train/ids.txt").read_text().splitlines()
    audio = np.load(tmp_path / "out/train/audio.npy")[ids.index(f"{VIDEO}[1]")]
    assert [bool(step.any()) for step in audio] == [False, True, True]


@pytest.mark.parametrize("name", tree.CSD_NAMES)
def test_intervals_that_end_before_they_begin_are_refused(tmp_path: Path, name: str) -> None:
    source = write_all(tmp_path / "download", moved(name, lambda times: times[:, ::-1], [VIDEO]))
    with pytest.raises(DataError, match=rf"{name}.csd: {VIDEO} has \d+ intervals that end before they begin"):
        prepare(source, tmp_path / "out")


def test_words_out_of_time_order_are_sorted_and_counted(tmp_path: Path) -> None:
    prepare(tree.csd_download(tmp_path / "download"), tmp_path / "sorted")
    streams, lines = tree.csd_videos(tree.csd_fold_videos()), list[str]()
    for name in ("CMU_MOSI_TimestampedWordVectors", "CMU_MOSI_TimestampedWords"):
        features, intervals = streams[name][VIDEO]
        order = np.random.default_rng(0).permutation(len(features))
        streams[name][VIDEO] = features[order], intervals[order]
    prepare(write_all(tmp_path / "mixed", streams), tmp_path / "out", warn=lines.append)
    for m in ("text", "audio", "visual"):
        expected = np.load(tmp_path / f"sorted/train/{m}.npy")
        np.testing.assert_array_equal(np.load(tmp_path / f"out/train/{m}.npy"), expected)
    assert f"the words of 1 video, {VIDEO} first, are out of time order; they are sorted by their beginnings" in lines


def test_silences_that_the_word_vectors_do_not_have_are_counted(tmp_path: Path) -> None:
    lines: list[str] = []
    source = write_all(tmp_path / "download", moved("CMU_MOSI_TimestampedWords", lambda times: times + 0.25, [VIDEO]))
    prepare(source, tmp_path / "out", warn=lines.append)
    assert any(line.startswith("3 of 48 silences are not intervals of the word vectors; ") for line in lines)


@pytest.mark.parametrize("name", ["CMU_MOSI_COVAREP", "CMU_MOSI_Visual_Facet_42"])
def test_a_modality_that_is_zero_throughout_is_refused(tmp_path: Path, name: str) -> None:
    streams = tree.csd_videos(tree.csd_fold_videos())
    streams[name] = {video: (np.zeros_like(rows), times) for video, (rows, times) in streams[name].items()}
    with pytest.raises(DataError, match=r"(audio|visual) is 0 in every step of all segments"):
        prepare(write_all(tmp_path / "download", streams), tmp_path / "out")


def test_files_that_macos_adds_are_ignored_and_suffixes_may_be_in_capitals(tmp_path: Path) -> None:
    source = tree.csd_download(tmp_path / "download")
    (source / "._CMU_MOSI_COVAREP.csd").write_bytes(b"\x00\x05\x16\x07")
    (source / "CMU_MOSI_COVAREP.csd").rename(source / "CMU_MOSI_COVAREP.CSD")
    assert prepare(source, tmp_path / "out").source["files"]["audio"] == "CMU_MOSI_COVAREP.CSD"


def rewrite(path: Path, make: Any) -> Path:
    """Replace the features of a video by what `make` puts into its group."""
    import h5py

    with h5py.File(path, "r+") as file:
        group = file[next(iter(file))]["data"][VIDEO]
        shape = group["features"].shape
        del group["features"]
        make(group, shape)
    return path


def external_link(group: Any, shape: Any) -> None:
    import h5py

    group["features"] = h5py.ExternalLink("elsewhere.h5", "/features")


def soft_link(group: Any, shape: Any) -> None:
    import h5py

    group["features"] = h5py.SoftLink(f"{group.parent.name}/{VIDEO}/intervals")


def external_storage(group: Any, shape: Any) -> None:
    group.create_dataset("features", shape=shape, dtype="f8", external=[("/etc/passwd", 0, 8 * shape[0] * shape[1])])


def virtual(group: Any, shape: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout(shape=shape, dtype="f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "features", shape=shape)
    group.create_virtual_dataset("features", layout)


def huge(group: Any, shape: Any) -> None:
    group.create_dataset("features", shape=(shape[0], 2**40), dtype="f8", chunks=(1, 2**20), compression="gzip")


def huge_chunk(group: Any, shape: Any) -> None:
    group.create_dataset(
        "features", shape=(shape[0], 8), maxshape=(None, None), dtype="f8", chunks=(1, 2**26), compression="gzip"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external_link, r"'features' is a link to elsewhere \(ExternalLink\), which is not followed"),
        (soft_link, r"'features' is a link to elsewhere \(SoftLink\), which is not followed"),
        (external_storage, "its values are in another file, which is not opened"),
        (virtual, "its values are in another file, which is not opened"),
        (huge, rf"values, more than the {MOST_VALUES:,} that are read"),
        (huge_chunk, rf"67,108,864 values in one chunk, more than the {MOST_VALUES:,} that are read"),
    ],
)
def test_values_that_are_elsewhere_or_too_many_are_not_read(tmp_path: Path, make: Any, message: str) -> None:
    source = tree.csd_download(tmp_path / "download")
    path = rewrite(source / "CMU_MOSI_COVAREP.csd", make)
    with pytest.raises(DataError, match=rf"COVAREP\.csd: {VIDEO} cannot be read \(.*{message}"):
        prepare(source, tmp_path / "out")
    assert path.stat().st_size < 10**6


def test_words_of_any_length_are_read(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "CMU_MOSI_TimestampedWords.csd"
    words = np.array([["sp"], ["hello"]], dtype=h5py.string_dtype())
    tree.write_csd(path, {VIDEO: (words, np.array([[0.0, 1.0], [1.0, 2.0]]))})
    with opened({"words": path}) as tables:
        assert tables["words"].read_words(VIDEO).features.tolist() == [[b"sp"], [b"hello"]]
        with pytest.raises(DataError, match="cannot be read"):
            tables["words"].read(VIDEO)


def test_a_pipe_in_place_of_a_csd_file_is_refused(tmp_path: Path) -> None:
    import os

    source = tree.csd_download(tmp_path / "download")
    (source / "CMU_MOSI_COVAREP.csd").unlink()
    os.mkfifo(source / "CMU_MOSI_COVAREP.csd")
    with pytest.raises(DataError, match=r"COVAREP\.csd: is a pipe, not a file"):
        prepare(source, tmp_path / "out")


def test_the_genuine_labels_are_read(shared: Path) -> None:
    path = shared / "data/cmu_mosi/csd/CMU_MOSI_Opinion_Labels.csd"
    with opened({"labels": path}) as tables:
        streams = [tables["labels"].read(video) for video in tables["labels"].videos]
    assert (len(streams), sum(len(stream.features) for stream in streams)) == (93, 2199)
