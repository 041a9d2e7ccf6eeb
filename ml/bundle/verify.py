"""Reading a bundle: every byte is compared with the registered sha256 before anything is used."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from ml.bundle.format import (
    FORMAT,
    MANIFEST,
    MAX_BYTES,
    MODEL,
    TREES,
    FileEntry,
    Manifest,
    ModelFile,
    Trees,
    check_model,
    only_read,
    sha256_of,
)
from ml.bundle.tree_arrays import TreeArrays, unpack_trees
from ml.errors import BundleRefused

# Before format 2 trees were a file of treelite, whose reader crashes on a file that was made for
# it. A linear model is the same in both.
_LINEAR_ONLY = 1
_READABLE = (_LINEAR_ONLY, 2, FORMAT)


def read_bundle(folder: Path, manifest_sha256: str) -> tuple[ModelFile, TreeArrays | None]:
    """The model of the bundle in `folder` whose manifest has that sha256, and its trees, if any.

    Columns that the model was given and does not use are left out.

    Raises:
        BundleRefused: a file is missing, is not listed, or differs from the manifest by one bit;
            or the files are what was registered, but no model that can be scored.
    """
    contents, version = checked_files(folder, manifest_sha256)
    if has_legacy_trees(version, contents):
        raise BundleRefused(
            f"{folder} holds trees of bundle format {version}, which serving no longer reads",
            hint="`eventide models convert <project>` writes its bundles in today's format",
        )
    model: ModelFile = decode(contents.get(MODEL, b""), ModelFile, MODEL)
    check_model(model)
    return only_read(model), _trees(model, contents.get(TREES))


def checked_files(folder: Path, manifest_sha256: str) -> tuple[dict[str, bytes], int]:
    """Every listed file's bytes, each compared with its size and sha256, and the format.

    Raises:
        BundleRefused: a file is missing, is not listed, or differs from the manifest by one bit.
    """
    raw = _read(folder, MANIFEST)
    if sha256_of(raw) != manifest_sha256:
        raise BundleRefused(
            f"{folder / MANIFEST} has sha256 {sha256_of(raw)[:12]}, but registered is "
            f"{manifest_sha256[:12]}",
            hint="the files were changed after registration, or belong to another version",
        )
    manifest = read_manifest(raw)
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if stray := sorted(present - {MANIFEST} - set(manifest.files)):
        raise BundleRefused(f"{folder} holds files that its manifest does not list: {stray}")
    files = {name: _checked(folder, name, entry) for name, entry in manifest.files.items()}
    return files, manifest.format


def read_manifest(raw: bytes) -> Manifest:
    """The manifest, if it lists only files that a bundle has, each below its limit.

    A reader that fetches a bundle reads this first, and then only what it lists.

    Raises:
        BundleRefused: it lists another file, or one that is too large.
    """
    manifest: Manifest = decode(raw, Manifest, MANIFEST)
    if manifest.format not in _READABLE:
        raise BundleRefused(
            f"bundle format {manifest.format}; this version reads {_LINEAR_ONLY} to {FORMAT}",
            hint="serve with the release that trained it, or a later one",
        )
    for name, entry in manifest.files.items():
        if name not in (MODEL, TREES):
            raise BundleRefused(f"a bundle has no file {name!r}")
        if not 0 <= entry.size <= MAX_BYTES[name]:
            raise BundleRefused(
                f"{name} would have {entry.size:,} bytes; at most {MAX_BYTES[name]:,} are read"
            )
    return manifest


def has_legacy_trees(version: int, files: Collection[str]) -> bool:
    """Whether the trees of a bundle of that format with these files are a file of treelite."""
    return version == _LINEAR_ONLY and TREES in files


def decode(raw: bytes, kind: type[Any], name: str) -> Any:
    """The record in the JSON of a file.

    Raises:
        BundleRefused: it is another record, or no JSON.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleRefused(f"{name} cannot be read: {error}") from error


def _trees(model: ModelFile, blob: bytes | None) -> TreeArrays | None:
    if not isinstance(model.estimator, Trees):
        if blob is not None:
            raise BundleRefused(f"the bundle has {TREES}, but its model has no trees")
        return None
    if blob is None:
        raise BundleRefused(f"the model has trees, but the bundle has no {TREES}")
    return unpack_trees(blob, model.estimator, columns=model.width)


def _checked(folder: Path, name: str, entry: FileEntry) -> bytes:
    content = _read(folder, name)
    if (len(content), sha256_of(content)) != (entry.size, entry.sha256):
        raise BundleRefused(
            f"{folder / name} is not the file that was registered: {len(content)} bytes, sha256 "
            f"{sha256_of(content)[:12]}; the manifest says {entry.size} and {entry.sha256[:12]}"
        )
    return content


def _read(folder: Path, name: str) -> bytes:
    """The content, cut behind the limit: a longer file differs from what its manifest says."""
    try:
        with (folder / name).open("rb") as file:
            return file.read(MAX_BYTES[name] + 1)
    except OSError as error:
        raise BundleRefused(f"{folder} has no readable {name}: {error.strerror}") from error
