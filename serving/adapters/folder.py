"""A bundle in a folder on disk: for tests, and for serving without a registry."""

import hashlib
from pathlib import Path

from ml.bundle.format import MANIFEST, MAX_BYTES
from ml.bundle.verify import read_manifest
from serving.errors import ModelUnavailable
from serving.model import ModelVersion


class FolderModelSource:
    """Serves the bundle in `folder`, and whatever replaces it there.

    No registry vouches for its manifest, so the sum only guards the copy on its way here.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self._folder, self._name = folder, name

    def current(self) -> ModelVersion | None:
        """The bundle of the moment; its version is the beginning of its manifest's sha256."""
        try:
            manifest = (self._folder / MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ModelUnavailable(f"{self._folder}: {error.strerror}") from error
        sha256 = hashlib.sha256(manifest).hexdigest()
        return ModelVersion(
            name=self._name, version=f"folder-{sha256[:12]}", run_id=None, bundle_sha256=sha256
        )

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Copy what the manifest lists; files that are replaced during the copy show by sha256."""
        try:
            self._copy(MANIFEST, folder, limit=MAX_BYTES[MANIFEST])
            manifest = read_manifest((folder / MANIFEST).read_bytes())
            for name, entry in manifest.files.items():
                self._copy(name, folder, limit=entry.size)
        except OSError as error:
            raise ModelUnavailable(f"{version.version}: {error}") from error

    def _copy(self, name: str, folder: Path, *, limit: int) -> None:
        """One byte more than the limit shows the reader that the file is too long."""
        with (self._folder / name).open("rb") as content:
            (folder / name).write_bytes(content.read(limit + 1))
