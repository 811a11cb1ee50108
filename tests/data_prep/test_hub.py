"""`drcli prepare --source hf://owner/name`, against a hub on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.arrays_tree import write
from support.command_line import invoke, tree
from support.hub import Hub, serving

import drcli
from data_prep.files.hub import Address, text_of
from drcli.data.format import read_info
from drcli.errors import DataError, DrcliError, UsageError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a repository: a source of the dataset "arrays" in a folder, and others beside it."""
    folder = write(tmp_path_factory.mktemp("source"))
    arrays = {f"mine/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}
    return {"README.md": b"# Clips\n", "setup.py": b"raise SystemExit\n", **arrays}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("COLUMNS", "1000")  # of a window that breaks no line
    with serving(Hub(), tmp_path / "cache", monkeypatch) as hub:
        yield hub


def prepare(source: str, out: Path, *options: object, code: int = 0) -> list[str]:
    """Lines on standard error, without those on the arrays."""
    outcome = invoke("prepare", "arrays", "--source", source, "--out", out, *options, code=code)
    return [line for line in outcome.stderr.splitlines() if "hf://" in line]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://somebody/clips", Address("somebody/clips")),
        ("hf://datasets/somebody/clips", Address("somebody/clips")),
        ("hf://somebody/clips/a/b.c@refs/pr/1", Address("somebody/clips", "a/b.c", "refs/pr/1")),
        (f"hf://somebody/clips@{'0f' * 20}", Address("somebody/clips", "", "0f" * 20)),
    ],
)
def test_an_address_is_a_repository_a_folder_and_a_revision(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert address.is_pinned == (address.revision == "0f" * 20)


OTHERWISE = ["", "somebody", "a b/c", "somebody/clips/../x", "somebody/clips//x", "o/n@", "o/n--m", "o/n..m", "o/n.git"]


@pytest.mark.parametrize("rest", [*OTHERWISE, "o/n.", "o/n@ma\nin", "o/n/\x1b[31m"])
def test_an_address_that_is_written_otherwise_is_refused(rest: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must be hf://owner/name\[/folder\]\[@revision\], such as hf://"):
        drcli.prepare("arrays", source=f"hf://{rest}", out=tmp_path / "out", progress=False)


def test_an_address_that_was_made_a_path_is_one_still() -> None:
    assert text_of(Path("hf://somebody/clips/mine@main")) == "hf://somebody/clips/mine@main"
    assert text_of(Path("mine/hf:/somebody")) is text_of("hf:/somebody") is text_of(None) is None


def test_a_folder_of_a_repository_becomes_the_dataset_that_its_download_gives(
    hub: Hub, clips: dict[str, bytes], tmp_path: Path
) -> None:
    commit = hub.commit(clips)
    lines = prepare("hf://somebody/clips/mine", tmp_path / "out")
    size = sum(len(content) for path, content in clips.items() if path.startswith("mine/")) / 1000
    cache = tmp_path / "cache" / "hub"
    assert lines == [
        f"hf://somebody/clips/mine@main: commit {commit}",
        f"hf://somebody/clips/mine@{commit}: downloading {size:.1f} kB in 3 files to {cache}",
    ]
    info = read_info(tmp_path / "out")
    assert info.source["hub"] == {
        "repository": "somebody/clips", "folder": "mine", "revision": "main", "commit": commit
    }  # fmt: skip
    assert not any("README" in path or "setup" in path for path in hub.requests)
    folder = write(tmp_path / "download")
    invoke("prepare", "arrays", "--source", folder, "--out", tmp_path / "plain")
    plain, fetched = tree(tmp_path / "plain"), tree(tmp_path / "out")
    assert {**plain, "dataset.json": ""} == {**fetched, "dataset.json": ""}
    assert read_info(tmp_path / "plain").fingerprint == info.fingerprint


def test_a_second_preparation_takes_the_commit_of_the_first_until_fresh_takes_the_newest(
    hub: Hub, clips: dict[str, bytes], tmp_path: Path
) -> None:
    first = hub.commit(clips)
    prepare("hf://somebody/clips/mine", tmp_path / "out")
    newest = hub.commit({**clips, "mine/more.txt": b"1"})
    before = len(hub.requests)
    (line,) = prepare("hf://somebody/clips/mine", tmp_path / "out")
    assert line == (
        f"hf://somebody/clips/mine@main: commit {first}, as the prepared dataset has it; --fresh takes the newest"
    )
    assert len(hub.requests) == before  # everything is in the cache
    prepare("hf://somebody/clips/mine", tmp_path / "out", "--fresh")
    assert read_info(tmp_path / "out").source["hub"]["commit"] == newest
    hub.commit(clips, "other")
    assert prepare("hf://somebody/clips/mine@other", tmp_path / "out")[0].endswith(f"@other: commit {first}")


def test_a_commit_that_is_in_the_cache_needs_no_network_and_the_rest_says_what_to_do(
    hub: Hub, clips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit(clips)
    prepare(f"hf://somebody/clips/mine@{commit}", tmp_path / "out")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert prepare(f"hf://somebody/clips/mine@{commit}", tmp_path / "again") == []
    assert tree(tmp_path / "out") == tree(tmp_path / "again")
    (line,) = prepare("hf://somebody/clips/mine", tmp_path / "third", code=3)
    assert "the hub cannot be reached (Cannot reach" in line
    assert "fetch it where there is a network, with the same HF_HOME, and name the commit" in line
    assert line.endswith("name the commit: hf://somebody/clips@COMMIT; or give the folder of a download with --source")
    snapshots = tmp_path / "cache" / "hub" / "datasets--somebody--clips" / "snapshots"
    (snapshots / commit / "mine" / "val.npz").unlink()  # as a download that was stopped leaves it
    assert prepare(f"hf://somebody/clips/mine@{commit}", tmp_path / "third", code=3)[-1].startswith(
        f"drcli: hf://somebody/clips/mine@{commit}: the hub cannot be reached"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    prepare(f"hf://somebody/clips/mine@{commit}", tmp_path / "third")
    assert tree(tmp_path / "out") == tree(tmp_path / "third")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://somebody/other", "the hub has no such dataset, or it is private; check the name, and run hf auth login"),
        ("hf://somebody/clips@new", "the repository has no such revision; name a branch, tag or commit"),
        ("hf://somebody/clips/yours", "the repository has no such folder at this revision"),
    ],
)
def test_what_is_not_on_the_hub_is_refused_in_one_line(
    source: str, message: str, hub: Hub, clips: dict[str, bytes], tmp_path: Path
) -> None:
    hub.commit(clips)
    line = prepare(source, tmp_path / "out", code=3)[-1]
    assert line.startswith(f"drcli: {source}")
    assert message in line


def test_a_gated_repository_is_refused_with_the_way_in(hub: Hub, clips: dict[str, bytes], tmp_path: Path) -> None:
    hub.commit(clips)
    hub.gated = True
    (line,) = prepare("hf://somebody/clips", tmp_path / "out", code=3)
    assert "is gated; accept its terms on its page of the hub (datasets/somebody/clips), then run hf auth login" in line


def test_nothing_is_asked_for_where_it_cannot_be_used(
    hub: Hub, clips: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(clips)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letters.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'letters\.txt', which is not part of a prepared dataset"):
        drcli.prepare("arrays", source="hf://somebody/clips", out=tmp_path / "taken", progress=False)
    with pytest.raises(UsageError, match="dataset 'digits' needs no download: leave out --source hf://somebody/clips"):
        drcli.prepare("digits", source="hf://somebody/clips", out=tmp_path / "out", progress=False)
    for options in (["--shard", "9/2"], ["--shard", "1/2"], ["--merge"], ["--engine", "spark"], ["--max-bad", "2"]):
        invoke("prepare", "arrays", "--source", "hf://somebody/clips", "--out", tmp_path / "out", *options, code=2)
    assert hub.requests == []
    free: Any = type("Free", (), {"free": 1000})
    monkeypatch.setattr("data_prep.files.hub.shutil.disk_usage", lambda _: free)
    with pytest.raises(DataError, match=r"kB are to be downloaded, .* has 1\.0 kB of space; free some, or set HF_HOME"):
        drcli.prepare("arrays", source="hf://somebody/clips", out=tmp_path / "out", progress=False)
    assert not any("/resolve/" in path for path in hub.requests)


@pytest.mark.parametrize("noted", ["{}", '{"mine/val.npz": "1"}', '{"mine/val.npz": -1}', "[1]"])
def test_a_damaged_note_of_the_sizes_is_refused(noted: str, hub: Hub, clips: dict[str, bytes], tmp_path: Path) -> None:
    source = f"hf://somebody/clips/mine@{hub.commit(clips)}"
    prepare(source, tmp_path / "out")
    (note,) = (tmp_path / "cache" / "assets").rglob("*.json")
    note.write_text(noted)
    with pytest.raises(DataError, match=r"\.json: damaged \(not .*\); delete it"):
        drcli.prepare("arrays", source=source, out=tmp_path / "again", progress=False)


def test_a_file_whose_name_leads_out_of_the_repository_is_refused(
    hub: Hub, clips: dict[str, bytes], tmp_path: Path
) -> None:
    hub.commit({**clips, "mine/../../out.npz": b"1"})
    with pytest.raises(DataError, match=r"'mine/\.\./\.\./out\.npz' cannot be the name of a file"):
        drcli.prepare("arrays", source="hf://somebody/clips/mine", out=tmp_path / "out", progress=False)


def test_without_the_package_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DrcliError, match=r"hf:// needs huggingface_hub, .*; run pip install 'drcli\[hub\]'"):
        drcli.prepare("arrays", source="hf://somebody/clips", out=tmp_path / "out", progress=False)
