"""What a training set was made from: the record that is stored beside its rows."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from features.engine.view_identity import ViewIdentity, changed_parts


class TableUse(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of an event's table.

    `rows_read`: the most that one view read. `offsets`: topic-partition -> first and last offset.
    """

    delta_version: int | None
    rows_read: int
    offsets: Mapping[str, tuple[int, int]]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows a training set has. Times are in microseconds since 1970."""

    service: str
    label: str
    start_us: int
    end_us: int
    known_before_us: int
    rows: int
    labelled: int


class RowsManifest(Content, frozen=True, kw_only=True):
    """Of rows in memory: the tables that they were computed from, and the sha256 of the rows."""

    tables: Mapping[str, TableUse]
    sha256: str


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """The code that computed it. `commit` ends with `-dirty` when files were changed since."""

    eventide: str
    commit: str | None
    python: str
    polars: str
    packages: Mapping[str, str] = {}  # that the formulas of views name, with their versions


class Manifest(Content, frozen=True, kw_only=True):
    """Of an exported file: all that it takes to compute the same rows again.

    Decisions lie in `start_us <= time < mature_until_us`. The later ones, until `end_us`, were not
    `max_wait` of the label old at the cut-off `known_before_us`. `offsets`: topic-partition ->
    first and last offset that was read. `content_sha256` is of the rows, `file_sha256` of the file.
    """

    mature_until_us: int
    content_sha256: str
    file_sha256: str
    delta_versions: Mapping[str, int]
    offsets: Mapping[str, tuple[int, int]]
    schema_ids: Mapping[str, int]  # by view
    code: Code
    parts: Mapping[str, Mapping[str, str]] = {}  # what each schema id is made of, by view


def file_manifest(
    of_rows: RowsManifest,
    *,
    mature_until_us: int,
    file_sha256: str,
    delta_versions: Mapping[str, int],
    identities: Mapping[str, ViewIdentity],
) -> Manifest:
    """The manifest of a file that holds these rows, as this code has computed them."""
    return Manifest(
        **{name: getattr(of_rows, name) for name in Content.__struct_fields__},
        mature_until_us=mature_until_us,
        content_sha256=of_rows.sha256,
        file_sha256=file_sha256,
        delta_versions=dict(sorted(delta_versions.items())),
        offsets={
            partition: span
            for _, table in sorted(of_rows.tables.items())
            for partition, span in sorted(table.offsets.items())
        },
        schema_ids={view: identity.schema_id for view, identity in identities.items()},
        code=_running_code(identities.values()),
        parts={view: identity.parts for view, identity in identities.items()},
    )


def changed_views(before: Manifest, identities: Mapping[str, ViewIdentity]) -> dict[str, list[str]]:
    """The views whose declaration is not that of the manifest, and what was changed if it says so.

    Ids of release 0.1.0 count as equal where its rule still matches.
    """
    return {
        view: changed_parts(before.parts[view], identity.parts) if view in before.parts else []
        for view, identity in identities.items()
        if before.schema_ids.get(view) not in (identity.schema_id, *identity.earlier_ids)
    }


def _running_code(identities: Iterable[ViewIdentity]) -> Code:
    return Code(
        packages={p: v for i in identities for p, v in sorted(i.packages.items())},
        eventide=importlib.metadata.version("eventide-mlops"),
        commit=_commit(),
        python=platform.python_version(),
        polars=importlib.metadata.version("polars"),
    )


def _commit() -> str | None:
    """The commit of the working copy that this code lies in; None without one, or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        process = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return process.stdout.strip() or None
