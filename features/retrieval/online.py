"""The features of live requests, from the online store."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from features.definitions import BoolArray, FeatureService, Float64Array, Int64Array
from features.engine.columns import arrays_of, encode_keys, entity_keys, field_tuples
from features.engine.request_columns import request_values
from features.engine.value_format import ViewSchemaMismatch
from features.engine.view_states import state_of
from features.stores.ports import OnlineStore


@dataclass(frozen=True, kw_only=True)
class FeatureVectors:
    """What a model is given, one row a request.

    `categories`: by name, in the service's order. `numbers`: float64 (n, len(service.numbers)) in
    that order, NaN for nothing. `exact`: False where a value may be wrong, because the request was
    older than what the online store still tells apart.
    """

    categories: dict[str, list[str]]
    numbers: Float64Array
    exact: BoolArray


class FeatureReader:
    """Reads the vectors of a service's requests. One snapshot of the store a call."""

    def __init__(self, service: FeatureService, store: OnlineStore) -> None:
        self._service, self._store = service, store
        self._event = service.decision.request
        asked = [f for view in service.views for f in (*view.entity.keys, *view.request_fields)]
        reads = [f for column in service.request_columns for f in column.reads]
        self._entities = tuple(dict.fromkeys(v.entity for v in service.views))
        self._computed = tuple(dict.fromkeys(reads))
        self._fields = tuple(dict.fromkeys((*asked, *reads)))

    def vectors(self, requests: Sequence[msgspec.Struct], as_of_us: Int64Array) -> FeatureVectors:
        """The vectors of requests, as of a time each.

        Raises:
            StoreUnavailable: the store does not answer; asking again may help.
            ViewSchemaMismatch: the store was built under other declarations.
        """
        self._check_schemas()
        fields = field_tuples(requests, self._fields)
        own = request_values(
            self._service, arrays_of(fields, self._event.record, self._computed), len(requests)
        )
        numbers, exact = [own.numbers], np.ones(len(requests), bool)
        named = {e: encode_keys(entity_keys(e, fields)) for e in self._entities}
        asked = [named[v.entity] for v in self._service.views]
        found = self._store.get(
            [(v.name, keys) for v, (keys, _) in zip(self._service.views, asked, strict=True)]
        )
        for view, (_, which), values in zip(self._service.views, asked, found, strict=True):
            question = arrays_of(fields, self._event.record, view.request_fields)
            answers = state_of(view).read(values, which, as_of_us, question)
            numbers.append(answers.values)
            exact &= answers.exact
        return FeatureVectors(categories=own.categories, numbers=np.hstack(numbers), exact=exact)

    def _check_schemas(self) -> None:
        """A view that the store does not keep from the first event on has no values, or too few:
        they would look like those of an entity without events."""
        stored = self._store.schema_ids()
        for view in self._service.views:
            if stored and stored.get(view.name) != state_of(view).schema_id:
                raise ViewSchemaMismatch(view.name)
