"""Reading a bundle: every byte is compared with the registered sha256 before anything is used."""

from pathlib import Path
from typing import Any

import msgspec

from ml.bundle.format import (
    FORMAT,
    MANIFEST,
    MODEL,
    TREES,
    FileEntry,
    Manifest,
    ModelFile,
    check_model,
    sha256_of,
)
from ml.errors import BundleRefused


def read_bundle(folder: Path, manifest_sha256: str) -> tuple[ModelFile, bytes | None]:
    """The model of the bundle in `folder` whose manifest has that sha256, and its trees, if any.

    Raises:
        BundleRefused: a file is missing, is not listed, or differs from the manifest by one bit;
            or the files are right but this version cannot read them.
    """
    contents = _checked_files(folder, manifest_sha256)
    model: ModelFile = _decode(contents.get(MODEL, b""), ModelFile, MODEL)
    check_model(model)
    return model, contents.get(TREES)


def _checked_files(folder: Path, manifest_sha256: str) -> dict[str, bytes]:
    """Every listed file's bytes, each compared with its size and sha256."""
    raw = _read(folder, MANIFEST)
    if sha256_of(raw) != manifest_sha256:
        raise BundleRefused(
            f"{folder / MANIFEST} has sha256 {sha256_of(raw)[:12]}, but registered is "
            f"{manifest_sha256[:12]}",
            hint="the files were changed after registration, or belong to another version",
        )
    manifest = _decode(raw, Manifest, MANIFEST)
    if manifest.format != FORMAT:
        raise BundleRefused(f"bundle format {manifest.format}; this version reads {FORMAT}")
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if stray := sorted(present - {MANIFEST} - set(manifest.files)):
        raise BundleRefused(f"{folder} holds files that its manifest does not list: {stray}")
    return {name: _checked(folder, name, entry) for name, entry in manifest.files.items()}


def _checked(folder: Path, name: str, entry: FileEntry) -> bytes:
    if name not in (MODEL, TREES):
        raise BundleRefused(f"a bundle has no file {name!r}")
    content = _read(folder, name)
    if (len(content), sha256_of(content)) != (entry.size, entry.sha256):
        raise BundleRefused(
            f"{folder / name} is not the file that was registered: {len(content)} bytes, sha256 "
            f"{sha256_of(content)[:12]}; the manifest says {entry.size} and {entry.sha256[:12]}"
        )
    return content


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleRefused(f"{folder} has no readable {name}: {error.strerror}") from error


def _decode(raw: bytes, kind: type[Any], name: str) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise BundleRefused(f"{name} cannot be read: {error}") from error
