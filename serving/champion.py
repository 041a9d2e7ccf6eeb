"""Keeps the current champion at hand, checked and warm, while requests are served.

A version is used only after its files were compared with the sha256 that was registered, its
columns with those that the feature service gives, and it has scored something. Until then, and
whenever anything fails, the model before it serves on. The last good one is kept on disk, so that
serving can start while the registry is away.
"""

import os
import shutil
import tempfile
import threading
from pathlib import Path
from random import SystemRandom

import msgspec
import numpy as np
import structlog

from features.definitions import FeatureService
from infra.process.background import Background
from ml.bundle.scoring import Bundle
from ml.errors import BundleRefused
from serving import metrics
from serving.errors import ModelRefused, ModelUnavailable
from serving.model import ModelVersion, ServedModel
from serving.ports import ModelSource

log = structlog.get_logger()

CURRENT = "current.json"
_jitter = SystemRandom()


class Champion:
    """`model` is what serves now: read it once a batch, it changes between two batches."""

    def __init__(
        self, source: ModelSource, *, folder: Path, service: FeatureService, warm_rows: int
    ) -> None:
        self.model: ServedModel | None = None
        self.trouble = ""  # why it is not newer
        self._source, self._folder, self._service = source, folder, service
        self._warm_rows = warm_rows

    def restore(self) -> None:
        """Take the last good model from disk. It serves until the source names another."""
        try:
            raw = (self._folder / CURRENT).read_bytes()
        except FileNotFoundError:
            return
        try:
            version = msgspec.json.decode(raw, type=ModelVersion)
            self._use(version, self._load(version))
        except (BundleRefused, ModelRefused, msgspec.MsgspecError) as error:
            self._note("local_model_refused", error)

    def refresh(self) -> None:
        """Look once whether another version is to serve; if so, and it is sound, change to it."""
        try:
            version = self._source.current()
            if version is None:
                self._clear("there is no champion yet")
            elif self.model is not None and self.model.version == version:
                self._clear("")
            else:
                self._use(version, self._obtain(version))
                self._point_to(version)
        except ModelUnavailable as error:
            self._note("model_unavailable", error)
        except (BundleRefused, ModelRefused) as error:
            metrics.MODEL_SWAPS.labels(result="refused").inc()
            self._note("model_refused", error)

    def _use(self, version: ModelVersion, bundle: Bundle) -> None:
        self.model = ServedModel(version=version, bundle=bundle)
        metrics.MODEL_SWAPS.labels(result="changed").inc()
        metrics.show_model(version.name, version.version)
        log.info("model_in_service", name=version.name, version=version.version)
        self._clear("")

    def _obtain(self, version: ModelVersion) -> Bundle:
        """From disk where a sound copy is there, else from the source."""
        if (self._folder / version.version).is_dir():
            try:
                return self._load(version)
            except BundleRefused as error:
                log.info("local_model_replaced", version=version.version, why=str(error))
        try:
            self._download(version)
        except OSError as error:
            raise ModelUnavailable(f"no room for {version.version}: {error}") from error
        return self._load(version)

    def _download(self, version: ModelVersion) -> None:
        """Into a folder of its own first: a half download never stands under a version's name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / version.version
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".new-") as temporary:
            fresh, old = Path(temporary) / "fresh", Path(temporary) / "old"
            fresh.mkdir()
            self._source.fetch(version, fresh)
            Bundle.load(fresh, version.bundle_sha256)
            if target.exists():
                target.rename(old)
            fresh.rename(target)

    def _load(self, version: ModelVersion) -> Bundle:
        bundle = Bundle.load(self._folder / version.version, version.bundle_sha256)
        check_columns(bundle, self._service)
        warm(bundle, rows=self._warm_rows)
        return bundle

    def _point_to(self, version: ModelVersion) -> None:
        """Remember it for a start without the registry. Old copies go, but for the last few."""
        pointer = self._folder / CURRENT
        fresh = self._folder / f".{CURRENT}-{os.getpid()}"
        fresh.write_bytes(msgspec.json.encode(version))
        fresh.replace(pointer)
        forget_old_copies(self._folder, keep=version.version)

    def _note(self, event: str, error: Exception) -> None:
        """Say it once, not at every look."""
        if self.trouble != str(error):
            log.warning(event, why=str(error))
        self.trouble = str(error)
        metrics.MODEL_LOOKS_FAILED.inc()

    def _clear(self, trouble: str) -> None:
        self.trouble = trouble


class ChampionWatch(Background):
    """Refreshes a champion from a thread of its own, every `seconds`, give or take a fifth.

    A download that is in its middle at the end is left.
    """

    def __init__(self, champion: Champion, *, seconds: float) -> None:
        self._champion, self._seconds = champion, seconds
        super().__init__("champion", self._watch)

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            self._champion.refresh()
            closed.wait(self._seconds * _jitter.uniform(0.8, 1.2))


def check_columns(bundle: Bundle, service: FeatureService) -> None:
    """Refuse a model that wants other columns than the service gives.

    Raises:
        ModelRefused: it names what is missing or too much.
    """
    wanted, given = (bundle.categories, bundle.numbers), (service.categories, service.numbers)
    if wanted != given:
        difference = sorted(set(sum(wanted, ())) ^ set(sum(given, ())))
        raise ModelRefused(
            f"the model's columns are not those of service {service.name}: {difference[:6]}"
            f"{' differ' if difference else 'another order'}",
            hint="train with this release's features, or serve with the release that trained it",
        )


def warm(bundle: Bundle, *, rows: int) -> None:
    """Score rows that know nothing, one and many, so that the first request waits for nothing.

    Raises:
        ModelRefused: it cannot even do that.
    """
    for n in (1, rows):
        blank = np.full((n, len(bundle.numbers)), np.nan)
        try:
            scores = bundle.score({name: [""] * n for name in bundle.categories}, blank)
        except Exception as error:
            raise ModelRefused(f"the model cannot score: {error!r}") from error
        if scores.shape != (n,) or not np.all((scores >= 0) & (scores <= 1)):
            raise ModelRefused("the model gives scores that are no probabilities")


def forget_old_copies(folder: Path, *, keep: str, copies: int = 3) -> None:
    """Delete all but the newest `copies` of a model's versions, and never `keep`."""
    found = sorted(
        (f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")),
        key=lambda f: f.stat().st_mtime_ns,
        reverse=True,
    )
    for old in found[copies:]:
        if old.name != keep:
            shutil.rmtree(old, ignore_errors=True)  # another process may be at it
