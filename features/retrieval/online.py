"""The features of live requests, from the online store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from features.definitions import BoolArray, FeatureService, Float64Array, Int64Array
from features.engine.checks import nullified
from features.engine.columns import arrays_of, encode_keys, entity_keys, field_tuples
from features.engine.request_columns import request_values
from features.engine.view_states import state_of
from features.retrieval.field_sets import column_fields, request_fields
from features.stores.declared_views import DeclaredViews
from features.stores.ports import OnlineStore


@dataclass(frozen=True, kw_only=True)
class FeatureVectors:
    """The input of a model, one row for each request.

    `categories`: by name, in the service's order. `numbers`: float64 (n, len(service.numbers)) in
    that order, NaN for a missing value. `exact`: False where a value may be wrong, because the
    request is older than what the online store still answers exactly.
    """

    categories: dict[str, list[str]]
    numbers: Float64Array
    exact: BoolArray


class FeatureReader:
    """Reads the vectors of a service's requests. Each call reads one snapshot of the store."""

    def __init__(self, service: FeatureService, store: OnlineStore) -> None:
        self._service, self._store = service, store
        self._event = service.decision.request
        self._declared = DeclaredViews(service.views)
        self._entities = tuple(dict.fromkeys(v.entity for v in service.views))
        self._column_fields = column_fields(service)
        self._fields = request_fields(service)

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        """The vectors of requests, each as of its own time.

        Raises:
            StoreUnavailable: the store does not respond; a retry may help.
            ViewSchemaMismatch: the store was built under other declarations.
        """
        self._declared.check(self._store)
        record, fields = self._event.record, self._believed(requests)
        columns = arrays_of(fields, record, self._column_fields)
        own = request_values(self._service, columns, as_of_us)
        numbers, exact = [own.numbers], np.ones(len(requests), bool)
        keys_of = {e: encode_keys(entity_keys(e, fields)) for e in self._entities}
        view_keys = [keys_of[v.entity] for v in self._service.views]
        stored = self._store.get(
            [(v.name, keys) for v, (keys, _) in zip(self._service.views, view_keys, strict=True)]
        )
        for view, (keys, which), values in zip(self._service.views, view_keys, stored, strict=True):
            query = arrays_of(fields, record, view.request_fields)
            result = state_of(view).read(values, keys, which, as_of_us, query)
            numbers.append(result.values)
            exact &= result.exact
        return FeatureVectors(categories=own.categories, numbers=np.hstack(numbers), exact=exact)

    def _believed(self, requests: Sequence[msgspec.Struct]) -> Mapping[str, Sequence[Any]]:
        """The fields of the requests, with None where a check nullifies them."""
        fields: Mapping[str, Sequence[Any]] = field_tuples(requests, self._fields)
        for event in self._service.decision.checked_as:
            fields = nullified(event, fields, record=self._event.record)
        return fields
