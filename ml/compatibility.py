"""Whether a model can be given the columns of a service: they exist and mean what they meant."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from features.definitions import FeatureService
from features.engine.column_meanings import column_meanings
from ml.bundle.format import ModelFile
from ml.bundle.scoring import Bundle

_NAMED = 6  # columns in a sentence


class _Columns(Protocol):
    """What a bundle, or its model file, says of its columns."""

    @property
    def categories(self) -> tuple[str, ...]: ...

    @property
    def numbers(self) -> tuple[str, ...]: ...


def unfit(bundle: Bundle, service: FeatureService) -> list[str]:
    """Why the bundle cannot score rows of the service, a sentence for each reason.

    It reads its own columns by name, so the service may have others too, in any order. A bundle
    that records no meanings fits if the names do.
    """
    missing = lacking(bundle, service)
    meanings = column_meanings(service)
    changed = [
        f"{column} ({meanings[column].declared_by})"
        for column, meaning in bundle.meanings.items()
        if column in meanings and meanings[column].digest != meaning
    ]
    reasons = []
    if missing:
        reasons.append(f"service {service.name} does not give {_listed(missing)}, which it reads")
    if changed:
        reasons.append(f"{_listed(changed)} no longer mean what they meant when it was trained")
    return reasons


def lacking(model: _Columns, service: FeatureService) -> list[str]:
    """The columns that the model reads and that the service does not give as what it reads."""
    return [
        *(column for column in model.categories if column not in service.categories),
        *(column for column in model.numbers if column not in service.numbers),
    ]


def meanings_of(model: _Columns, service: FeatureService) -> dict[str, str]:
    """What each column of the model means by today's declarations, for `ModelFile.meanings`.

    Raises:
        KeyError: the service lacks one.
    """
    meanings = column_meanings(service)
    return {column: meanings[column].digest for column in (*model.categories, *model.numbers)}


def with_meanings(model: ModelFile, service: FeatureService) -> ModelFile:
    """The model with the meanings of today."""
    return msgspec.structs.replace(model, meanings=meanings_of(model, service))


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - _NAMED
    return ", ".join(columns[:_NAMED]) + (f" and {more} more" if more > 0 else "")
