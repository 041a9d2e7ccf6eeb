"""Writes the bundles of registered versions in today's format, and checks that they score alike.

A version keeps its number, its run and its aliases: only the tags that name its bundle change, and
only after the new bundle has given the scores that were stored when the version was trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import polars as pl

from ml.bundle.format import FORMAT, MANIFEST, TREES
from ml.bundle.scoring import Bundle
from ml.bundle.verify import read_manifest
from ml.errors import BundleRefused, MlError
from ml.ports import RegisteredVersion, Registry
from ml.registry_tags import (
    CANDIDATE_TAG,
    CONVERTED_FROM_TAG,
    DAY_TAG,
    KEY_TAG,
    PATH_TAG,
    SHA256_TAG,
)
from ml.steps.train import MAX_DIFFERENCE, SCORES, bundle_scores
from ml.training.legacy_bundles import convert_in_a_process

NEW_PATH = f"bundle-{FORMAT}"


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version. `rows`: how many stored scores the new bundle gave again."""

    name: str
    version: str
    changed: bool
    rows: int = 0
    bundle_sha256: str


def convert_all(
    name: str,
    *,
    registry: Registry,
    work: Path,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[Conversion]:
    """Convert the bundle of every version of the model that an alias names.

    A bundle that serving reads stays as it is, so a second call changes nothing.

    Raises:
        MlError: no alias names a version, or stored scores are gone.
        BundleRefused: a bundle is not what was registered, or scores differently when converted.
    """
    versions = sorted(set(registry.aliases(name).values()), key=int)
    if not versions:
        raise MlError(f"no alias of {name} names a version", hint="there is nothing to convert")
    conversions = []
    for version in versions:
        on_progress(f"{name} {version}: reading its bundle")
        conversions.append(convert(registry.get(name, version), registry=registry, work=work))
    return conversions


def convert(version: RegisteredVersion, *, registry: Registry, work: Path) -> Conversion:
    """Convert the bundle of one version; see `convert_all`.

    The tag of its place is the last that changes: after a crash the next call finds the old bundle.
    """
    old_sha256 = version.tags.get(CONVERTED_FROM_TAG, version.tags[SHA256_TAG])
    with TemporaryDirectory() as temporary:
        old, new = Path(temporary, "old"), Path(temporary, "new")
        old.mkdir()
        registry.download(version, old)
        manifest = read_manifest((old / MANIFEST).read_bytes())
        if manifest.format == FORMAT or TREES not in manifest.files:
            return _outcome(version, version.tags[SHA256_TAG], changed=False)
        sha256 = convert_in_a_process(old, old_sha256, new)
        rows = check_scores(Bundle.load(new, sha256), _fit_folder(version, work))
        registry.upload(version, new, NEW_PATH)
    registry.tag(version, {CONVERTED_FROM_TAG: old_sha256, SHA256_TAG: sha256, PATH_TAG: NEW_PATH})
    return _outcome(version, sha256, changed=True, rows=rows)


def check_scores(bundle: Bundle, fit: Path) -> int:
    """Compare the bundle with the scores that training stored; returns how many there were.

    `fit`: the folder of a learner in the work folder.

    Raises:
        MlError: the stored scores, or the rows that they belong to, are gone.
        BundleRefused: a score differs.
    """
    scores_file, rows_file = fit / SCORES, fit.parents[1] / "evaluation.parquet"
    if missing := [f for f in (scores_file, rows_file) if not f.is_file()]:
        raise MlError(
            f"{missing[0]} is gone, so nothing says what the bundle has to score",
            hint="train a later day: its version has a bundle of today's format",
        )
    expected, rows = pl.read_parquet(scores_file), pl.read_parquet(rows_file)
    same_rows = expected["entity_id"].equals(rows["entity_id"])
    scores = bundle_scores(bundle, rows) if same_rows else np.full(len(expected), np.nan)
    difference = np.abs(scores - expected["score"].to_numpy()).max(initial=0.0)
    if not len(expected) or not difference <= MAX_DIFFERENCE:
        raise BundleRefused(
            f"the converted bundle scores {len(expected):,} stored rows up to {difference:.2g}"
            " differently; the version keeps the one that it has"
        )
    return len(expected)


def _fit_folder(version: RegisteredVersion, work: Path) -> Path:
    parts = [version.tags[tag] for tag in (DAY_TAG, KEY_TAG)]
    return work.joinpath(version.name, *parts, "fits", version.tags[CANDIDATE_TAG])


def _outcome(
    version: RegisteredVersion, sha256: str, *, changed: bool, rows: int = 0
) -> Conversion:
    return Conversion(
        name=version.name,
        version=version.version,
        changed=changed,
        rows=rows,
        bundle_sha256=sha256,
    )


def describe(conversions: Sequence[Conversion]) -> list[str]:
    """A sentence for each."""
    return [
        f"{c.name} {c.version}: converted; {c.rows:,} stored scores are the same"
        if c.changed
        else f"{c.name} {c.version}: serving reads its bundle as it is"
        for c in conversions
    ]
