"""A bundle in a folder on disk: for tests, and for serving without a registry."""

import hashlib
import shutil
from pathlib import Path

from ml.bundle.format import MANIFEST
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
        """Copy the files; if they are replaced during the copy, their sha256 shows it."""
        try:
            files = [f for f in self._folder.iterdir() if f.is_file()]
            if not files:
                raise ModelUnavailable(f"{self._folder} is empty: {version.version} is gone")
            for file in files:
                shutil.copyfile(file, folder / file.name)
        except OSError as error:
            raise ModelUnavailable(f"{version.version}: {error}") from error
