"""The model in service."""

from dataclasses import dataclass

from msgspec import Struct

from ml.bundle.scoring import Bundle


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A registered version, and the sum by which its bundle is known."""

    name: str
    version: str
    run_id: str | None  # the MLflow run that trained it; None outside a registry
    bundle_sha256: str  # of the bundle's manifest


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version that was checked and can score."""

    version: ModelVersion
    bundle: Bundle
