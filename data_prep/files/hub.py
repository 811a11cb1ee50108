"""Fetches a dataset repository of the Hugging Face Hub, at one commit, into the hub's cache on this machine.

Only files are fetched: no code of the repository is run, nothing is unpacked or unpickled. The cache is the one of
`huggingface_hub`, below HF_HOME; the files and sizes of each commit that was fetched are noted beside it, so that a
snapshot that is not whole is never taken for one, with a network or without.
"""

from __future__ import annotations

import glob
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from drcli.amounts import counted, in_bytes
from drcli.errors import DataError, UsageError
from drcli.files import write_json
from drcli.reading import one_line, read_json_object

PREFIX = "hf://"
GRAMMAR = f"{PREFIX}owner/name[/folder][@revision]"
DEFAULT_BRANCH = "main"
MOST_FILES = 400_000

_NAME = re.compile(r"(?!.*(?:--|\.\.))(?!.*(?:\.git|[.-])$)[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""As the hub has it: neither of -- and .. anywhere, and none of .git, - and . at the end."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Address:
    """A folder of a dataset repository.

    Attributes:
        repository: "owner/name".
        folder: within the repository; "" for the whole of it.
        revision: a commit (40 hexadecimal digits), branch or tag.
    """

    repository: str
    folder: str = ""
    revision: str = DEFAULT_BRANCH

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return what `hf://owner/name[/folder][@revision]` names; `hf://datasets/owner/name` is the same.

        Raises:
            UsageError: it is written otherwise.
        """
        place, has_revision, revision = text.removeprefix(PREFIX).partition("@")
        owner, _, rest = place.removeprefix("datasets/").strip("/").partition("/")
        name, _, folder = rest.partition("/")
        steps = folder.split("/") if folder else []
        is_plain = text.isprintable() and all(_NAME.fullmatch(part) for part in (owner, name))
        if not is_plain or {"", ".", ".."} & set(steps) or bool(has_revision) != bool(revision):
            shown = text if text.isprintable() else ascii(text)
            raise UsageError(f"--source {shown}: must be {GRAMMAR}, such as hf://somebody/vggsound@main")
        return cls(f"{owner}/{name}", folder, revision or DEFAULT_BRANCH)

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}{'/' if self.folder else ''}{self.folder}@{self.revision}"

    @property
    def is_pinned(self) -> bool:
        """Whether it names a commit."""
        return _COMMIT.fullmatch(self.revision) is not None


def text_of(source: str | Path | None) -> str | None:
    """The address that a --source is, also one that was made into a `Path`, which drops a slash; None of a folder."""
    text = str(source)
    if isinstance(source, Path) and source.parts[:1] == (PREFIX.rstrip("/"),):
        return text.replace("/", "//", 1)
    return text if text.startswith(PREFIX) else None


def commit_of(address: Address, origin: Mapping[str, Any] | None, note: Callable[[str], None]) -> str:
    """Return the commit that an address means: its own, else that of an earlier preparation, else the newest.

    Args:
        address: where.
        origin: what the dataset that is prepared already says of its own address, `source.hub` in `dataset.json`.
        note: called with one line that says what a branch or tag was taken for.

    Raises:
        UsageError: huggingface_hub is not installed.
        DataError: the hub cannot be reached, or has no such repository or revision for this user.
    """
    if address.is_pinned:
        return address.revision
    if origin is not None and dict(origin) == provenance(address, str(origin.get("commit"))):
        note(f"{address}: commit {origin['commit']}, as the prepared dataset has it; --fresh takes the newest")
        return str(origin["commit"])
    hub = _hub()
    try:
        commit = str(hub.HfApi().dataset_info(address.repository, revision=address.revision).sha)
    except Exception as error:
        raise _explained(address, error) from error
    note(f"{address}: commit {commit}")
    return commit


def provenance(address: Address, commit: str) -> dict[str, str]:
    """Return what `dataset.json` says of an address, `source.hub`."""
    return {
        "repository": address.repository,
        "folder": address.folder,
        "revision": address.revision,
        "commit": commit,
    }


def fetch(address: Address, note: Callable[[str], None], *, is_watched: bool = False) -> Path:
    """Return the folder of an address in the cache, every file of it there; downloads those that are not.

    Args:
        address: of a commit.
        note: called with one line that says how much is downloaded, before it is.
        is_watched: whether bars of the download are drawn.

    Raises:
        UsageError: huggingface_hub is not installed.
        DataError: the hub cannot be reached, has no such folder for this user, or the disk has less space.
    """
    assert address.is_pinned
    hub = _hub()
    sizes = _sizes(hub, address)
    missing = _missing(hub, address, sizes)
    if missing:
        _check_space(hub, address, {name: sizes[name] for name in missing}, note)
        with _bars(hub, is_watched):
            _download(hub, address)
    missing = _missing(hub, address, sizes)
    if missing:
        raise DataError(f"{address}: {missing[0]} is not as the hub lists it; repeat the command")
    first = next(iter(sizes))
    root = Path(_cached(hub, address, first)).parents[len(PurePosixPath(first).parts) - 1]
    return root / address.folder


def _hub() -> Any:
    try:
        import huggingface_hub.constants
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{PREFIX} needs huggingface_hub, which is not installed; run pip install 'drcli[hub]'"
        ) from error
    return huggingface_hub


def _sizes(hub: Any, address: Address) -> dict[str, int]:
    """The sizes of the files of a folder at a commit: as noted when it was first listed, else as the hub lists them."""
    folder = hashlib.sha256(address.folder.encode()).hexdigest()[:16]
    assets = hub.cached_assets_path("drcli", namespace=address.repository, assets_dir=hub.constants.HF_ASSETS_CACHE)
    noted = Path(assets) / f"{address.revision}-{folder}.json"
    if noted.is_file():
        found = read_json_object(noted, remedy="delete it")
        if not found or not all(type(size) is int and size >= 0 for size in found.values()):
            raise DataError(f"{noted}: damaged (not the sizes of files); delete it")
        return found
    sizes = _listed(hub, address)
    write_json(noted, sizes)
    return sizes


def _listed(hub: Any, address: Address) -> dict[str, int]:
    """The sizes of the files of a folder, as the hub says."""
    sizes: dict[str, int] = {}
    try:
        entries = hub.HfApi().list_repo_tree(
            address.repository,
            address.folder or None,
            recursive=True,
            revision=address.revision,
            repo_type="dataset",
        )
        for entry in entries:
            if getattr(entry, "size", None) is not None:  # folders have none
                sizes[str(entry.path)] = int(entry.size)
            if len(sizes) > MOST_FILES:
                break
    except Exception as error:
        raise _explained(address, error) from error
    if not 0 < len(sizes) <= MOST_FILES:
        what = f"has more than {MOST_FILES:,} files; name a folder of it" if sizes else "holds no file"
        raise DataError(f"{address}: {what}")
    return sizes


def _missing(hub: Any, address: Address, sizes: Mapping[str, int]) -> list[str]:
    """The files that are not in the cache with their sizes."""
    return [name for name, size in sizes.items() if _size(_cached(hub, address, name)) != size]


def _size(path: Any) -> int | None:
    return Path(path).stat().st_size if isinstance(path, str) else None


def _cached(hub: Any, address: Address, name: str) -> Any:
    """Where a file lies in the cache; no path where it does not.

    Raises:
        DataError: its name leads out of the repository.
    """
    try:
        return hub.try_to_load_from_cache(address.repository, name, revision=address.revision, repo_type="dataset")
    except ValueError as error:
        raise DataError(
            f"{address}: {name!a} cannot be the name of a file ({one_line(error)}); tell its owner"
        ) from error


def _check_space(hub: Any, address: Address, sizes: Mapping[str, int], note: Callable[[str], None]) -> None:
    """Say how much is downloaded, once there is space for it.

    Raises:
        DataError: there is not.
    """
    cache, total = Path(hub.constants.HF_HUB_CACHE), sum(sizes.values())
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if total > free:
        raise DataError(
            f"{address}: {in_bytes(total)} are to be downloaded, {cache} has {in_bytes(free)} of space; free some, or "
            "set HF_HOME to a folder on a larger disk"
        )
    note(f"{address}: downloading {in_bytes(total)} in {counted(len(sizes), 'file')} to {cache}")


def _download(hub: Any, address: Address) -> None:
    pattern = f"{glob.escape(address.folder)}/*" if address.folder else None
    try:
        hub.snapshot_download(
            address.repository, repo_type="dataset", revision=address.revision, allow_patterns=pattern
        )
    except Exception as error:
        raise _explained(address, error) from error


@contextmanager
def _bars(hub: Any, is_watched: bool) -> Iterator[None]:
    """Let the hub draw its bars only where somebody looks at them."""
    is_off = hub.utils.are_progress_bars_disabled()
    if not is_watched:
        hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        if not is_watched and not is_off:
            hub.utils.enable_progress_bars()


def _explained(address: Address, error: Exception) -> DataError:
    """What the hub refuses, in one line with the remedy; told by the names of the errors, which every version has."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    refusal = next((text for kind, text in _REFUSALS.items() if kind in kinds), None)
    if refusal is not None and "LocalEntryNotFoundError" not in kinds:
        return DataError(f"{address}: {refusal.format(page=f'datasets/{address.repository}', error=one_line(error))}")
    if getattr(error, "errno", None) is not None and not isinstance(error, ConnectionError):
        return DataError(f"{address}: the cache cannot be written ({error}); free some space, or set HF_HOME")
    pinned = "" if address.is_pinned else f", and name the commit: {PREFIX}{address.repository}@COMMIT"
    return DataError(
        f"{address}: the hub cannot be reached ({one_line(error)}); fetch it where there is a network, with the same "
        f"HF_HOME{pinned}; or give the folder of a download with --source"
    )


_REFUSALS: Mapping[str, str] = {
    "GatedRepoError": "is gated; accept its terms on its page of the hub ({page}), then run hf auth login, or set "
    "HF_TOKEN",
    "RepositoryNotFoundError": "the hub has no such dataset, or it is private; check the name, and run hf auth login "
    "if it is yours",
    "RevisionNotFoundError": "the repository has no such revision; name a branch, tag or commit of {page}",
    "EntryNotFoundError": "the repository has no such folder at this revision; see {page}",
    "HfHubHTTPError": "the hub refuses ({error}); repeat the command later",
}
"""What is said of errors of huggingface_hub, the particular ones first."""
