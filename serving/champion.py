"""Keeps the current champion loaded, checked and warm, while requests are served.

A version is used only after three checks: its files have the registered sha256, the feature service
gives its columns in the meaning that they had at training, and it has scored a test batch. Until
then, and whenever a check fails, the previous model keeps serving. The last good one stays on disk,
so serving can start while the registry is away.
"""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom

import msgspec
import numpy as np
import structlog

from features.definitions import FeatureService
from infra.atomic import atomic_folder, write_atomic
from infra.process.background import Background
from ml.bundle.scoring import Bundle
from ml.compatibility import unfit
from ml.errors import BundleRefused
from serving import metrics
from serving.errors import ModelRefused, ModelUnavailable
from serving.model import ModelVersion, ServedModel
from serving.ports import ModelSource

log = structlog.get_logger()

CURRENT = "current.json"
RETRY_REFUSED_S = 600.0  # a refused version is tried again, in case a transfer was at fault
_jitter = SystemRandom()


class Champion:
    """The model in service. Read `model` once a batch: it changes between batches."""

    def __init__(
        self,
        source: ModelSource,
        *,
        folder: Path,
        service: FeatureService,
        warm_rows: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model: ServedModel | None = None
        self.trouble = "the registry has not answered yet"  # why it is not newer
        self._source, self._folder, self._service = source, folder, service
        self._warm_rows, self._clock_s = warm_rows, clock_s
        self._refused: tuple[ModelVersion | None, float] = None, 0.0  # the last one, and when

    def restore(self) -> None:
        """Take the last good model from disk. It serves until the source names another."""
        try:
            raw = (self._folder / CURRENT).read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            self._report("local_model_unreadable", error)
            return
        try:
            version = msgspec.json.decode(raw, type=ModelVersion)
            self._put_in_service(version, self._load(version))
        except (
            BundleRefused,
            ModelRefused,
            msgspec.MsgspecError,
            UnicodeDecodeError,
            OSError,
        ) as error:
            self._report("local_model_refused", error)

    def refresh(self) -> None:
        """Look up once which version is to serve, and switch to it if it is new and valid.

        Whatever goes wrong, the model in service goes on serving.
        """
        version = None
        try:
            version = self._source.current()
            if version is None:
                self._note_absence()
            elif self.model is not None and self.model.version == version:
                self.trouble = ""
            elif not self._is_refused(version):
                self._put_in_service(version, self._obtain(version))
                self._remember(version)
        except ModelUnavailable as error:
            self._report("model_unavailable", error)
        except (BundleRefused, ModelRefused) as error:
            self._refused = version, self._clock_s()
            metrics.MODEL_SWAPS.labels(result="refused").inc()
            self._report("model_refused", error)
        except Exception as error:  # noqa: BLE001  # requests must not wait for a model's trouble
            metrics.MODEL_SWAPS.labels(result="refused").inc()
            self._report("model_check_failed", error)

    def _note_absence(self) -> None:
        """No version has the alias: that is usual at first, and news once there was one."""
        if self.model is None:
            self.trouble = "no champion is registered"
            return
        version = self.model.version
        trouble = f"no version has the alias champion; version {version.version} goes on serving"
        if self.trouble != trouble:
            log.warning("champion_alias_missing", name=version.name, serving=version.version)
        self.trouble = trouble

    def _is_refused(self, version: ModelVersion) -> bool:
        """Files that were refused are not fetched again at once: they may be large."""
        refused, at = self._refused
        return refused == version and self._clock_s() - at < RETRY_REFUSED_S

    def _put_in_service(self, version: ModelVersion, bundle: Bundle) -> None:
        self.model = ServedModel.of(version, bundle, self._service)
        metrics.MODEL_SWAPS.labels(result="changed").inc()
        metrics.show_model(version.name, version.version)
        log.info("model_in_service", name=version.name, version=version.version)
        self.trouble = ""

    def _obtain(self, version: ModelVersion) -> Bundle:
        """From disk if there is a valid copy, else from the source."""
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
        with atomic_folder(self._folder / version.version) as draft:
            self._source.fetch(version, draft)
            Bundle.load(draft, version.bundle_sha256)

    def _load(self, version: ModelVersion) -> Bundle:
        bundle = Bundle.load(self._folder / version.version, version.bundle_sha256)
        check_columns(bundle, self._service)
        warm(bundle, rows=self._warm_rows)
        return bundle

    def _remember(self, version: ModelVersion) -> None:
        """Save it for a start without the registry; delete all but the last few copies.

        Where that fails it serves all the same; only such a start would begin with an older one.
        """
        try:
            write_atomic(self._folder / CURRENT, msgspec.json.encode(version))
            delete_old_copies(self._folder, keep=version.version)
        except OSError as error:
            self._report("model_not_remembered", error)

    def _report(self, event: str, error: Exception) -> None:
        """Keep the error, and log it once, not at every refresh."""
        why = str(error) or repr(error)
        if self.trouble != why:
            log.warning(event, why=why)
        self.trouble = why
        metrics.MODEL_CHECKS_FAILED.inc()


class ChampionWatch(Background):
    """Refreshes a champion from a thread of its own, every `seconds`, give or take a fifth.

    A download that is under way at the end is left unfinished.
    """

    def __init__(self, champion: Champion, *, seconds: float) -> None:
        self._champion, self._seconds = champion, seconds
        super().__init__("champion", self._watch)

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            self._champion.refresh()
            closed.wait(self._seconds * _jitter.uniform(0.8, 1.2))


def check_columns(bundle: Bundle, service: FeatureService) -> None:
    """Refuse a model that the service cannot give its columns.

    Raises:
        ModelRefused: the sentence names columns that are missing, or mean something else now.
    """
    if reasons := unfit(bundle, service):
        raise ModelRefused(
            f"model {bundle.info.model} of {bundle.info.day} does not fit: {'; '.join(reasons)}",
            hint="train with these declarations, or serve with those that it was trained with",
        )
    if not bundle.meanings:
        log.warning("model_without_meanings", model=bundle.info.model, day=bundle.info.day)


def warm(bundle: Bundle, *, rows: int) -> None:
    """Score rows without any value, one and many: the first request then finds it warm.

    Raises:
        ModelRefused: the model fails, or gives scores outside [0, 1].
    """
    for n in (1, rows):
        blank = np.full((n, len(bundle.numbers)), np.nan)
        try:
            scores = bundle.score({name: [""] * n for name in bundle.categories}, blank)
        except Exception as error:
            raise ModelRefused(f"the model cannot score: {error!r}") from error
        if scores.shape != (n,) or not np.all((scores >= 0) & (scores <= 1)):
            raise ModelRefused("the model gives scores that are not probabilities")


def delete_old_copies(folder: Path, *, keep: str, copies: int = 3) -> None:
    """Delete all but the newest `copies` of a model's versions, and never `keep`."""
    newest_first = sorted(
        (f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")),
        key=lambda f: f.stat().st_mtime_ns,
        reverse=True,
    )
    for old in newest_first[copies:]:
        if old.name != keep:
            shutil.rmtree(old, ignore_errors=True)  # another process may be at it
