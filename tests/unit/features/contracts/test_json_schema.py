"""Schema files match the code, and old readers can read new records."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features.catalog import domains
from features.contracts.json_schema import SchemaFile, breaking_changes, schema_files, write

FILES = list(schema_files(domains()))
OLD: dict[str, Any] = {
    "properties": {
        "delay": {"type": "integer", "minimum": -60, "maximum": 240},
        "tail": {"anyOf": [{"type": "string", "maxLength": 10}, {"type": "null"}]},
        "outcome": {"enum": ["predicted", "rejected"]},
    },
    "required": ["delay", "outcome"],
}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.path.name)
def test_every_schema_file_is_current(file: SchemaFile) -> None:
    assert file.mistake is None


def test_every_event_and_the_outcome_have_a_schema() -> None:
    assert len(FILES) == sum(len(d.events) for d in domains()) + 1
    assert "prediction.v1.json" in {f.path.name for f in FILES}


def _gone(schema: dict[str, Any]) -> None:
    del schema["properties"]["tail"]


def _new_required(schema: dict[str, Any]) -> None:
    schema["properties"]["gate"] = {"type": "string"}
    schema["required"].append("gate")


def _now_optional(schema: dict[str, Any]) -> None:
    schema["required"].remove("delay")


def _narrower_bound(schema: dict[str, Any]) -> None:
    schema["properties"]["delay"]["maximum"] = 100


def _other_type(schema: dict[str, Any]) -> None:
    schema["properties"]["delay"] = {"type": "string"}


def _no_longer_null(schema: dict[str, Any]) -> None:
    schema["properties"]["tail"] = {"type": "string", "maxLength": 10}


def _fewer_values(schema: dict[str, Any]) -> None:
    schema["properties"]["outcome"]["enum"] = ["predicted"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_gone, "'tail' is gone"),
        (_new_required, "'gate' is required now"),
        (_now_optional, "'delay' may be left out now"),
        (_narrower_bound, "'delay' has a lower maximum"),
        (_other_type, "'delay' can no longer be integer"),
        (_no_longer_null, "'tail' can no longer be null"),
        (_fewer_values, "'outcome' can no longer be 'rejected'"),
    ],
)
def test_a_breaking_change_is_named(
    change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    new = copy.deepcopy(OLD)
    change(new)
    assert any(complaint in message for message in breaking_changes(OLD, new))


def test_an_optional_field_and_a_wider_bound_break_no_reader() -> None:
    new = copy.deepcopy(OLD)
    new["properties"]["gate"] = {"type": "string"}
    new["properties"]["delay"]["maximum"] = 500
    assert breaking_changes(OLD, new) == []


def test_a_breaking_change_is_not_written_over_the_old_schema(tmp_path: Path) -> None:
    path = tmp_path / "event.v1.json"
    old = SchemaFile(path=path, schema=OLD)
    assert write([old]) == [path]
    new = SchemaFile(path=path, schema={**OLD, "required": ["delay", "outcome", "tail"]})
    assert write([new]) == []
    assert "the version has to go up" in (new.mistake or "")
    assert old.mistake is None
