"""What serving needs from outside: models and features."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from features.definitions import Int64Array
from features.retrieval.online import FeatureVectors
from serving.model import ModelVersion


class ModelSource(Protocol):
    """Knows which model is to serve, and has its files."""

    def current(self) -> ModelVersion | None:
        """The version that is to serve now; None while there is none.

        Returns within seconds.

        Raises:
            ModelUnavailable: the source does not respond.
        """
        ...

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Write the files of the version's bundle into the existing, empty `folder`.

        The files are not checked: the caller compares them with `bundle_sha256`.

        Raises:
            ModelUnavailable: not all of them could be written.
        """
        ...


class Features(Protocol):
    """The columns of a feature service for requests, live; see `features.retrieval.online`."""

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        """One row for each request, as of its decision time.

        Raises:
            StoreUnavailable: the store did not respond; trying again may help.
            CorruptValue: the store holds damaged values; ingest repairs them.
        """
        ...
