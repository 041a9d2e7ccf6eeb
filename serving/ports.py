"""What serving needs from outside, in its own words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from features.definitions import Int64Array
from features.retrieval.online import FeatureVectors
from serving.model import ModelVersion


class ModelSource(Protocol):
    """Where models come from, and which one is to serve."""

    def current(self) -> ModelVersion | None:
        """The version that is to serve now; None while there is none.

        Answers within seconds.

        Raises:
            ModelUnavailable: nobody knows at the moment.
        """
        ...

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Write the files of the version's bundle into the existing, empty `folder`.

        What arrives is not trusted: whoever calls this checks it against `bundle_sha256`.

        Raises:
            ModelUnavailable: they could not all be written.
        """
        ...


class Features(Protocol):
    """The columns of a feature service for requests, live; see `features.retrieval.online`."""

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        """One row for each request, as of its decision time.

        Raises:
            StoreUnavailable: the store did not answer; trying again may help.
            CorruptValue: the store holds damaged values; ingest mends them.
        """
        ...
