"""The model in service."""

from dataclasses import dataclass

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.definitions import FeatureService, Float64Array
from features.retrieval.online import FeatureVectors
from ml.bundle.scoring import Bundle


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A registered version, and the sha256 that identifies its bundle."""

    name: str
    version: str
    run_id: str | None  # the MLflow run that trained it; None outside a registry
    bundle_sha256: str  # of the bundle's manifest


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version that was checked and can score.

    `places`: where the numbers that it reads stand among those of the service.
    """

    version: ModelVersion
    bundle: Bundle
    places: NDArray[np.intp]

    @classmethod
    def of(cls, version: ModelVersion, bundle: Bundle, service: FeatureService) -> "ServedModel":
        """The model for vectors of a service, which gives every column that it reads."""
        places = [service.numbers.index(column) for column in bundle.numbers]
        return cls(version=version, bundle=bundle, places=np.array(places, dtype=np.intp))

    def score(self, vectors: FeatureVectors) -> Float64Array:
        """Probabilities, one for each row; see `Bundle.score`."""
        return self.bundle.score(vectors.categories, vectors.numbers[:, self.places])
