"""Makes a verified version the champion. A pool of the scheduler runs one promotion at a time."""

import json
from pathlib import Path

from infra.clock import from_us
from infra.logging import log
from ml.errors import RegistryConflict
from ml.ports import Registry
from ml.project import ModelProject
from ml.registry_tags import CHAMPION, PREVIOUS, PROMOTED_TAG, VERIFIED_TAG
from ml.results import Promotion, Registration, Verdict
from ml.steps.artifacts import one_at_a_time

LIFECYCLE = "lifecycle.jsonl"


def promote(
    project: ModelProject,
    registration: Registration,
    verdict: Verdict,
    *,
    registry: Registry,
    work: Path,
    now_us: int,
) -> Promotion:
    """Point `champion` at the version and `previous` at the one before, and log the promotion.

    A version is promoted once: a rerun of its day, perhaps months later, changes nothing. A rerun
    after a crash in the middle finishes what is missing.

    Raises:
        RegistryConflict: the version was not verified, the champion is not the one that it was
            judged against, or the alias is not what was just set.
    """
    with one_at_a_time(work / project.name):
        return _promote_once(
            project, registration, verdict, registry=registry, work=work, now_us=now_us
        )


def _promote_once(
    project: ModelProject,
    registration: Registration,
    verdict: Verdict,
    *,
    registry: Registry,
    work: Path,
    now_us: int,
) -> Promotion:
    version = registry.get(project.name, registration.version)
    aliases = registry.aliases(project.name)
    if PROMOTED_TAG in version.tags:
        return Promotion(
            name=version.name,
            version=version.version,
            previous=aliases.get(PREVIOUS),
            changed=False,
        )
    if VERIFIED_TAG not in version.tags:
        raise RegistryConflict(f"version {version.version} was never verified")
    _check_unmoved(aliases.get(CHAMPION), verdict, version.version)
    if verdict.champion is not None:
        registry.point(project.name, PREVIOUS, verdict.champion)
    registry.point(project.name, CHAMPION, version.version)
    _read_back(registry, project.name, version.version)
    at = from_us(now_us).isoformat()
    _note(work / project.name / LIFECYCLE, registration, verdict, at=at)
    registry.tag(version, {PROMOTED_TAG: at})
    return Promotion(
        name=version.name, version=version.version, previous=verdict.champion, changed=True
    )


def _check_unmoved(champion: str | None, verdict: Verdict, version: str) -> None:
    if champion not in (verdict.champion, version):
        raise RegistryConflict(
            f"version {version} was judged against {verdict.champion or 'no champion'}, but "
            f"{champion} serves now",
            hint="train a later day: it will be judged against the current champion",
        )


def _read_back(registry: Registry, name: str, version: str) -> None:
    current = registry.aliases(name).get(CHAMPION)
    if current != version:
        raise RegistryConflict(
            f"{CHAMPION} of {name} is {current}, not {version}: another process promotes",
        )


def _note(file: Path, registration: Registration, verdict: Verdict, *, at: str) -> None:
    """Append one line for the version, once. A line that a crash tore off stays, on its own."""
    text = file.read_text(errors="replace") if file.is_file() else ""
    if registration.version in _noted_versions(text, file):
        return
    entry = {
        "at": at,
        "event": "promoted",
        "version": registration.version,
        "previous": verdict.champion,
        "run_id": registration.run_id,
        "bundle_sha256": registration.bundle_sha256,
        "checks": [check.text for check in verdict.checks],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as appended:
        begin = "" if text.endswith("\n") or not text else "\n"
        appended.write(begin + json.dumps(entry) + "\n")


def _noted_versions(text: str, file: Path) -> set[str]:
    versions = set()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            versions.add(str(json.loads(line)["version"]))
        except (ValueError, KeyError, TypeError):
            log.warning("lifecycle_line_unreadable", file=str(file), line=number)
    return versions
