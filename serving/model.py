"""The model in service."""

from dataclasses import dataclass

from msgspec import Struct

from ml.bundle.scoring import Bundle


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A registered version, and the sha256 that identifies its bundle."""

    name: str
    version: str
    run_id: str | None  # the MLflow run that trained it; None outside a registry
    bundle_sha256: str  # of the bundle's manifest


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version that was checked and can score."""

    version: ModelVersion
    bundle: Bundle
