"""Checks the projects: against the domains, the names of expectations, and by building learners."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

from features.catalog_check import Mistake, mistake_at, mistake_of
from features.catalog_check.catalog import is_consequence
from features.definitions import Domain
from features.definitions.declaration import is_broken, place_of, sound
from features.definitions.validation import collecting, near
from infra.discovery import each_module
from infra.errors import DeclarationMistake
from ml.project import Candidate, Expectation, ModelProject

Found = tuple[object, str, str | None]
"""A declaration, its mistake, and the remedy."""


@dataclass(frozen=True, kw_only=True)
class ProjectsReport:
    """The projects by name, as far as they could be read, and every mistake."""

    projects: tuple[str, ...]
    mistakes: list[Mistake]


def check_projects(package: ModuleType, domains: Mapping[str, Domain | None]) -> ProjectsReport:
    """Check every project in `package` beside the checked domains.

    As with domains, nothing may use what was made of a wrong declaration: see
    `forgetting_imports`.
    """
    names, mistakes = [], []
    with collecting() as noted:
        for name, declared in each_module(package, "PROJECT", ModelProject):
            own = [mistake_of(m, name) for m in noted]
            noted.clear()
            names.append(name)
            if not isinstance(declared, DeclarationMistake):
                own += mistakes_of_project(declared, domains)
            elif not (own and is_consequence(declared)):
                own.append(mistake_of(declared, name))
            mistakes += own
    return ProjectsReport(projects=tuple(names), mistakes=list(dict.fromkeys(mistakes)))


def mistakes_of_project(
    project: ModelProject, domains: Mapping[str, Domain | None]
) -> Iterator[Mistake]:
    """What is wrong with a project, beside what its declarations refuse themselves."""
    mistakes = [*_of_domain(project, domains), *_of_expectations(project)]
    if not is_broken(project):
        mistakes += _of_learners(project)
    for declaration, mistake, remedy in mistakes:
        place = place_of(declaration) or place_of(project)
        yield mistake_at(place, project.name, f"project {project.name}: {mistake}", remedy)


def _of_domain(project: ModelProject, domains: Mapping[str, Domain | None]) -> Iterator[Found]:
    """The service and the label belong to the project's domain."""
    if project.domain not in domains:
        yield project, f"there is no domain {project.domain!r}", near(project.domain, domains)
        return
    domain = domains[project.domain]
    if domain is None or is_broken(domain):
        return
    for kind, own, all_of_kind in (
        ("service", project.service, domain.services),
        ("label", project.label, domain.labels),
    ):
        if own not in all_of_kind:
            names = near(own.name, (d.name for d in all_of_kind))
            mistake = f"the {kind} {own.name!r} is none of the domain {domain.name!r}"
            yield project, mistake, f"{names} Or list it in the domain"


def _of_expectations(project: ModelProject) -> Iterator[Found]:
    """Great Expectations knows each of them."""
    known = _expectation_names()
    for expectation in sound(project.expectations) if known else ():
        if expectation.kind not in known:
            yield _unknown(expectation, known)


def _unknown(expectation: Expectation, known: frozenset[str]) -> Found:
    hint = near(expectation.kind, known)
    remedy = hint if hint.startswith("did") else "see Great Expectations' gallery for their names"
    return expectation, f"there is no expectation {expectation.kind!r}", remedy


@cache
def _expectation_names() -> frozenset[str]:
    """By the names of files: importing the library takes seconds. None where it is not installed,
    as on a machine that only serves."""
    try:
        core = distribution("great_expectations").locate_file(
            "great_expectations/expectations/core"
        )
    except PackageNotFoundError:
        return frozenset()
    return frozenset(file.stem for file in Path(str(core)).glob("expect_*.py"))


def _of_learners(project: ModelProject) -> Iterator[Found]:
    """Each learner builds a pipeline that can be fitted."""
    for learner in project.learners:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                built = _built(project, learner)
        except Exception as error:  # noqa: BLE001  # it may be any code
            mistake = f"candidate {learner.name} raised {type(error).__name__}: {error}"
            yield learner, mistake, None
            continue
        if not all(hasattr(built, method) for method in ("fit", "predict_proba", "named_steps")):
            kind = type(built).__name__
            yield learner, f"candidate {learner.name} builds a {kind}, not a pipeline", None


def _built(project: ModelProject, learner: Candidate) -> object:
    columns = project.columns_of(learner)
    categories = [c for c in project.service.categories if c in columns]
    numbers = [c for c in project.service.numbers if c in columns]
    return learner.build(categories, numbers, seed=project.seed, **learner.options)
