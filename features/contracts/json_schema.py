"""The JSON Schema of every record that crosses a topic, as files beside the declarations.

The files are for those who read the topics in other languages. They are generated; a test fails
when code and file differ. A change that readers of the old version could not read is refused unless
the version goes up: a field removed, a new field that is required, a narrower type or bound.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from features.contracts.predictions import SCHEMA, Outcome
from features.definitions import Domain

Schema = Mapping[str, Any]

_CATALOG = Path(__file__).parents[1] / "catalog"
_CONTRACTS = Path(__file__).parent / "schemas"
_LOWER, _UPPER = ("minimum", "minLength"), ("maximum", "maxLength")


@dataclass(frozen=True, kw_only=True)
class SchemaFile:
    """One schema and its file."""

    path: Path
    schema: Schema

    @property
    def text(self) -> str:
        """The content that the file should have."""
        return json.dumps(self.schema, indent=2, sort_keys=True) + "\n"

    @property
    def mistake(self) -> str | None:
        """What is wrong with the file; None if it is current."""
        if not self.path.is_file():
            return f"{self.path.name} is missing"
        if self.path.read_text() == self.text:
            return None
        if self.breaking_changes:
            return f"{self.path.name}: {'; '.join(self.breaking_changes)}: the version has to go up"
        return f"{self.path.name} is not current: `eventide schemas --write`"

    @property
    def breaking_changes(self) -> list[str]:
        """What the declaration has changed, since the file was written, that breaks readers."""
        if not self.path.is_file():
            return []
        return breaking_changes(json.loads(self.path.read_text()), self.schema)


def schema_files(domains: Sequence[Domain]) -> Iterator[SchemaFile]:
    """Every schema of the declared events and of the outcomes."""
    for domain in domains:
        for event in domain.events:
            yield SchemaFile(
                path=_CATALOG / domain.name / "schemas" / f"{event.name}.v{event.version}.json",
                schema=_schema(event.record, event.schema),
            )
    name, version = SCHEMA.split("/")
    yield SchemaFile(
        path=_CONTRACTS / f"{name}.v{version}.json",
        schema=_schema(Outcome, SCHEMA),
    )


def write(files: Sequence[SchemaFile]) -> list[Path]:
    """Write the files that are not current, except breaking changes; returns their paths."""
    changed = [f for f in files if f.mistake and not f.breaking_changes]
    for file in changed:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.text)
    return [file.path for file in changed]


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """The changes after which readers of one schema cannot read all records of the other."""
    before, after = old["properties"], new["properties"]
    problems = [f"field {name!r} is gone" for name in before if name not in after]
    required = set(new.get("required", ())) - set(old.get("required", ()))
    problems += [f"field {name!r} is required now" for name in sorted(required)]
    optional = set(old.get("required", ())) - set(new.get("required", ()))
    problems += [f"field {name!r} may be left out now" for name in sorted(optional & set(after))]
    for name in before.keys() & after.keys():
        problems += [f"field {name!r} {change}" for change in _narrowed(before[name], after[name])]
    return sorted(problems)


def _schema(record: type[msgspec.Struct], title: str) -> dict[str, Any]:
    (_, components) = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **components[record.__name__],
        "title": title,
    }


def _narrowed(old: Schema, new: Schema) -> list[str]:
    old_kinds, new_kinds = _by_type(old), _by_type(new)
    changes = [f"can no longer be {kind}" for kind in old_kinds if kind not in new_kinds]
    for kind in old_kinds.keys() & new_kinds.keys():
        changes += _tighter(old_kinds[kind], new_kinds[kind])
    return changes


def _by_type(schema: Schema) -> dict[str, Schema]:
    """The alternatives of a field, by their type."""
    alternatives = schema.get("anyOf", [schema])
    return {str(s.get("type", "enum" if "enum" in s else "anything")): s for s in alternatives}


def _tighter(old: Schema, new: Schema) -> list[str]:
    low = [f"has a higher {b}" for b in _LOWER if new.get(b, -1e300) > old.get(b, -1e300)]
    high = [f"has a lower {b}" for b in _UPPER if new.get(b, 1e300) < old.get(b, 1e300)]
    lost = set(old.get("enum", ())) - set(new.get("enum", old.get("enum", ())))
    return low + high + [f"can no longer be {value!r}" for value in sorted(lost)]
