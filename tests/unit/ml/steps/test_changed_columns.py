"""What happens to a champion when the columns that it reads are changed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from features.definitions import FeatureService
from ml.bundle.format import MANIFEST, MODEL, sha256_of
from ml.bundle.scoring import Bundle
from ml.conversion import convert_all
from ml.errors import BundleRefused, MlError
from ml.ports import RegisteredVersion
from ml.project import Gate, ModelProject
from ml.registry_tags import (
    CHAMPION,
    CONVERTED_FROM_TAG,
    JUDGED_AGAINST_TAG,
    PATH_TAG,
    SHA256_TAG,
)
from ml.steps.evaluate import champion_of
from ml.steps.gate import apply_gates
from tests.support.changed_services import (
    with_another_view,
    with_longer_schedule,
    without_routes,
)
from tests.unit.ml.steps.test_evaluate_and_release import PROJECT, Bench, bench, fitted

__all__ = ["bench", "fitted"]

SERVICE = PROJECT.service


def next_day(bench: Bench, project: ModelProject) -> Bench:
    """The same decisions once more, after the champion of the first day was promoted."""
    assert bench.promote().changed
    later = replace(
        bench, snapshot=msgspec.structs.replace(bench.snapshot, key="later"), project=project
    )
    later.registry = bench.registry
    return later


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (without_routes, "does not give route_landings_count_24h"),
        (with_longer_schedule, "origin_schedule_count_same_hour (view origin_schedule)"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_named_and_the_gates_of_a_first_model_apply(
    changed: Callable[[FeatureService], FeatureService], named: str, bench: Bench
) -> None:
    later = next_day(bench, replace(PROJECT, service=changed(SERVICE)))
    evaluation = later.evaluate()
    assert evaluation.champion == "1"
    (reason,) = evaluation.incomparable
    assert named in reason
    assert CHAMPION not in evaluation.qualities
    verdict = apply_gates(later.project, later.snapshot, evaluation)
    checked = {check.measure: check for check in verdict.checks}
    assert verdict.accepted
    assert "champion 1 cannot be compared" in checked["champion_incomparable"].text
    assert named in checked["champion_incomparable"].text
    assert "log_loss_minus_base_rate_upper" in checked
    assert "log_loss_minus_champion_upper" not in checked


def test_a_champion_that_cannot_be_compared_is_replaced_and_becomes_the_previous_one(
    bench: Bench,
) -> None:
    later = next_day(bench, replace(PROJECT, service=with_longer_schedule(SERVICE)))
    assert later.promote().previous == "1"
    tags = later.registry.get(PROJECT.name, "2").tags
    assert tags[JUDGED_AGAINST_TAG] == "base rate and reference"


def test_a_project_may_hold_where_a_champion_cannot_be_compared(bench: Bench) -> None:
    gate = Gate(measure="champion_incomparable", at_most=0, why="a person decides")
    project = replace(PROJECT, service=with_longer_schedule(SERVICE), gates=(*PROJECT.gates, gate))
    later = next_day(bench, project)
    verdict = apply_gates(later.project, later.snapshot, later.evaluate())
    (reason,) = verdict.reasons
    assert "a person decides" in reason


def test_a_champion_is_compared_by_its_own_columns_where_the_service_gives_more(
    bench: Bench,
) -> None:
    later = next_day(bench, replace(PROJECT, service=with_another_view(SERVICE)))
    evaluation = later.evaluate()
    assert evaluation.has_comparable_champion
    assert evaluation.measures["champion_incomparable"] == 0
    assert evaluation.differences[CHAMPION].value == pytest.approx(0, abs=1e-12)


@pytest.fixture
def old(bench: Bench) -> RegisteredVersion:
    """The champion, with a bundle as releases wrote it that recorded no meanings."""
    assert bench.promote().changed
    version = bench.registry.get(PROJECT.name, "1")
    files = bench.experiments.runs[version.run_id].files
    model = msgspec.json.decode(files[f"bundle/{MODEL}"])
    del model["meanings"]
    files[f"bundle/{MODEL}"] = content = msgspec.json.encode(model)
    manifest = msgspec.json.decode(files[f"bundle/{MANIFEST}"])
    manifest["format"] = 2
    manifest["files"][MODEL] = {"size": len(content), "sha256": sha256_of(content)}
    files[f"bundle/{MANIFEST}"] = raw = msgspec.json.encode(manifest)
    bench.registry.tag(version, {SHA256_TAG: sha256_of(raw)})
    return bench.registry.get(PROJECT.name, "1")


def champion_bundle(bench: Bench) -> Bundle:
    champion = champion_of(bench.registry, PROJECT)
    assert champion is not None
    assert not champion.incomparable
    return champion.bundle


def converted(bench: Bench, service: FeatureService = SERVICE) -> Any:
    return convert_all(PROJECT.name, service=service, registry=bench.registry, work=bench.work)[0]


@pytest.mark.parametrize("earlier", [{}, {CONVERTED_FROM_TAG: "of a still older format"}])
def test_a_bundle_of_before_gets_the_meanings_of_today_once(
    earlier: dict[str, str], bench: Bench, old: RegisteredVersion
) -> None:
    bench.registry.tag(old, earlier)
    before = champion_bundle(bench)
    assert before.meanings == {}
    assert converted(bench).changed
    after = champion_bundle(bench)
    assert after.meanings.keys() == {*after.categories, *after.numbers}
    rows = before.known_rows()
    np.testing.assert_array_equal(after.score(*rows), before.score(*rows))
    assert not converted(bench, with_longer_schedule(SERVICE)).changed
    assert champion_bundle(bench).meanings == after.meanings


def test_a_conversion_that_was_cut_short_is_finished(bench: Bench, old: RegisteredVersion) -> None:
    """Its last tag says where the bundle is: until it is set, the old bundle is read."""
    assert converted(bench).changed
    sha256 = bench.registry.get(PROJECT.name, "1").tags[SHA256_TAG]
    bench.registry.tag(old, {PATH_TAG: old.tags[PATH_TAG]})
    with pytest.raises(BundleRefused):
        champion_of(bench.registry, PROJECT)
    assert converted(bench).bundle_sha256 == sha256
    assert champion_bundle(bench).meanings


def test_a_bundle_whose_columns_are_gone_is_not_converted(
    bench: Bench, old: RegisteredVersion
) -> None:
    with pytest.raises(MlError, match="route_landings_count_24h"):
        converted(bench, without_routes(SERVICE))
    assert bench.registry.get(PROJECT.name, "1") == old
