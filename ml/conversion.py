"""Writes the bundles of registered versions in today's format, and checks that they score alike.

A version keeps its number, its run and its aliases: only the tags that name its bundle change. A
new bundle records what its columns mean by today's declarations. Trees that are converted have to
give the scores that were stored when the version was trained; other models stay as they are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import polars as pl

from features.definitions import FeatureService
from ml.bundle.format import (
    FORMAT,
    MANIFEST,
    MODEL,
    TREES,
    ModelFile,
    only_read,
    sha256_of,
    write_bundle,
)
from ml.bundle.scoring import Bundle
from ml.bundle.verify import checked_files, decode, has_legacy_trees, read_manifest
from ml.compatibility import lacking, with_meanings
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
    service: FeatureService,
    registry: Registry,
    work: Path,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[Conversion]:
    """Convert the bundle of every version of the model that an alias names.

    A bundle of today's format stays as it is, so a second call changes nothing.

    Raises:
        MlError: no alias names a version, the service lacks a column, or stored scores are gone.
        BundleRefused: a bundle is not what was registered, or scores differently when converted.
    """
    versions = sorted(set(registry.aliases(name).values()), key=int)
    if not versions:
        raise MlError(f"no alias of {name} names a version", hint="there is nothing to convert")
    conversions = []
    for version in versions:
        on_progress(f"{name} {version}: reading its bundle")
        registered = registry.get(name, version)
        conversions.append(convert(registered, service=service, registry=registry, work=work))
    return conversions


def convert(
    version: RegisteredVersion, *, service: FeatureService, registry: Registry, work: Path
) -> Conversion:
    """Convert the bundle of one version; see `convert_all`.

    The tag of its place is the last that changes: after a crash the next call finds the old bundle.
    """
    with TemporaryDirectory() as temporary:
        old, plain, new = (Path(temporary, name) for name in ("old", "plain", "new"))
        old.mkdir()
        registry.download(version, old)
        old_sha256, rows = _registered_sha256(version, old), 0
        manifest = read_manifest((old / MANIFEST).read_bytes())
        if manifest.format == FORMAT:
            return _outcome(version, old_sha256, changed=False)
        plain_sha256 = old_sha256
        if has_legacy_trees(manifest.format, manifest.files):
            plain_sha256 = convert_in_a_process(old, old_sha256, plain)
            rows = check_scores(Bundle.load(plain, plain_sha256), _fit_folder(version, work))
        else:
            plain = old
        sha256 = record_meanings(plain, plain_sha256, new, service=service)
        registry.upload(version, new, NEW_PATH)
    registry.tag(version, {CONVERTED_FROM_TAG: old_sha256, SHA256_TAG: sha256, PATH_TAG: NEW_PATH})
    return _outcome(version, sha256, changed=True, rows=rows)


def record_meanings(
    folder: Path, manifest_sha256: str, new: Path, *, service: FeatureService
) -> str:
    """Write the bundle in `folder` into `new`, with what its columns mean today; returns the sha256
    of the new manifest.

    Raises:
        MlError: the service lacks a column that the model reads.
        BundleRefused: the bundle is not what was registered.
    """
    contents, _ = checked_files(folder, manifest_sha256)
    model: ModelFile = only_read(decode(contents[MODEL], ModelFile, MODEL))
    if missing := lacking(model, service):
        raise MlError(
            f"service {service.name} does not give {', '.join(missing)}, which the model reads",
            hint="convert it with the declarations that it was trained with",
        )
    return write_bundle(new, with_meanings(model, service), trees=contents.get(TREES))


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


def _registered_sha256(version: RegisteredVersion, folder: Path) -> str:
    """Of the manifest that was downloaded. A conversion that was cut short has registered the new
    one beside it."""
    sha256 = sha256_of((folder / MANIFEST).read_bytes())
    if sha256 not in (version.tags[SHA256_TAG], version.tags.get(CONVERTED_FROM_TAG)):
        raise BundleRefused(
            f"the bundle of {version.name} {version.version} is not what was registered"
        )
    return sha256


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
    return [f"{c.name} {c.version}: {_description(c)}" for c in conversions]


def _description(conversion: Conversion) -> str:
    if not conversion.changed:
        return "serving reads its bundle as it is"
    if not conversion.rows:
        return "records what its columns mean; the model is the same"
    return (
        f"converted; {conversion.rows:,} stored scores are the same, and it records what its"
        " columns mean"
    )
