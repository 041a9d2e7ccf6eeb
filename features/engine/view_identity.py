"""The identity of a view: what changes when its stored values would mean something else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.definitions.lifecycle_views import PreviousView
from features.definitions.views import CalendarView, View
from features.engine.earlier_identity import earlier_schema_id
from features.identity.formulas import identity_of
from features.identity.tokens import Token, digest


@dataclass(frozen=True, kw_only=True)
class ViewIdentity:
    """`schema_id`: 63 bits that change with the meaning of a view's stored columns. `earlier_ids`:
    what earlier rules gave to the same declaration, release 0.1.0 first.

    `parts`: what the id is made of, name -> short text or digest: with the parts of before they say
    what was changed. `packages`: the libraries that formulas name, with their installed versions;
    they do not count. `read_formulas`: formulas that are computed when features are read, which
    do not count for the stored values, name -> digest.
    """

    schema_id: int
    earlier_ids: tuple[int, ...]
    parts: Mapping[str, str]
    packages: Mapping[str, str]
    read_formulas: Mapping[str, str]


def view_identity(
    view: View,
    columns: Sequence[str],
    dependencies: Sequence[object],
    kinds: Mapping[str, Mapping[str, str]],
    limits: Sequence[object] = (),
) -> ViewIdentity:
    """The identity of a view.

    `dependencies`: what the stored numbers depend on beside the view's name, events, entity, reach
    and checks; formulas stand in them as functions, in a tuple that begins with their name.
    `kinds`: of the fields that the view reads, by event. `limits`: dependencies that earlier rules
    left out.

    Raises:
        NoStableIdentity: a formula reaches something that is not the same in every process.
    """
    formulas = _Formulas(view)
    declared = {
        "the name of the view": view.name,
        "its events": [(e.schema, e.known_after_us) for e in view.sources],
        "the checks of its events": _checks(view),
        "the types of its fields": [(e, *sorted(k.items())) for e, k in kinds.items()],
        "its entity": view.entity.keys,
        "its reach": view.reach_us,
        "its stored columns": tuple(columns),
        "its settings": list(dependencies),
    }
    tokens = {part: formulas.token(value) for part, value in declared.items()}
    earlier_ids = [earlier_schema_id(view, columns, dependencies)]
    if limits:
        earlier_ids.append(_id_of(tokens))
        tokens["its limits"] = formulas.token(tuple(limits))
    parts = {part: digest(_without_formulas(token))[:16] for part, token in tokens.items()}
    return ViewIdentity(
        schema_id=_id_of(tokens),
        earlier_ids=tuple(earlier_ids),
        parts=parts | formulas.parts,
        packages=formulas.packages,
        read_formulas={n: identity_of(f, _full(view, n)).digest for n, f in read_formulas(view)},
    )


def read_formulas(view: View) -> Iterator[tuple[str, Any]]:
    """The formulas that are computed when features are read, with their names."""
    if isinstance(view, CalendarView):
        for span in view.spans:
            yield f"the start of span {span.name!r}", span.start
            yield f"the end of span {span.name!r}", span.end
    elif isinstance(view, PreviousView):
        for value in view.values:
            yield f"the value {value.name!r}", value.compute


def changed_parts(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between the parts of two identities of a view, in words."""
    new = {name for name in now if name not in before}
    return [
        *(
            f"{name} ({_both(before[name], now[name])})"
            for name in now
            if name in before and before[name] != now[name]
        ),
        *(f"{name} (new)" for name in now if name in new),
        *(f"{name} (gone)" for name in before if name not in now),
    ]


class _Formulas:
    """Makes tokens of declarations, with formulas by their digests; keeps what those consist of."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.parts: dict[str, str] = {}
        self.packages: dict[str, str] = {}

    def token(self, value: Any, name: str = "") -> Token:
        """The token of a part; `name`: what a formula in it belongs to."""
        if isinstance(value, (list, tuple)):
            named = value and isinstance(value, tuple) and isinstance(value[0], str)
            return tuple(self.token(v, value[0] if named else name) for v in value)
        if not callable(value):
            return value
        label = f"the formula of {name!r}" if name else "its formula"
        identity = identity_of(value, _full(self._view, label))
        self.parts |= {label: identity.digest[:16], **identity.parts}
        self.packages |= identity.packages
        return _FormulaDigest(identity.digest)


def _id_of(tokens: Mapping[str, Token]) -> int:
    return int(digest(tuple(tokens.items()))[:16], 16) >> 1


class _FormulaDigest(str):
    """The digest of a formula in a token."""


def _without_formulas(token: Token) -> Token:
    """The token of what is declared around the formulas."""
    if isinstance(token, tuple):
        return tuple(_without_formulas(t) for t in token)
    return "formula" if isinstance(token, _FormulaDigest) else token


def _full(view: View, label: str) -> str:
    return f"view {view.name}, {label}"


def _checks(view: View) -> list[Any]:
    return [
        (c.name, c.field, c.reads, c.holds) for e in view.sources for c in e.checks_with("nullify")
    ]


def _both(before: str, now: str) -> str:
    """Values of constants as they are, digests not."""
    is_digest = len(now) == 16 and not now.startswith(("'", '"'))
    return "changed" if is_digest and len(before) == 16 else f"{before} then, {now} now"
