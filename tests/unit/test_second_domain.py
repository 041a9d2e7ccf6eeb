"""A second domain consists of its own files only: the product discovers it, and never names it."""

import re
from collections.abc import Iterator
from pathlib import Path

from features.catalog import domain, domains, event_types
from features.catalog.purchases.recording import RECORDING
from features.contracts.json_schema import schema_files
from features.contracts.topics import topic_specs
from features.replay.recordings import has_recording, recording_of
from ml.projects import project, projects

ROOT = Path(__file__).resolve().parents[2]
OWN = ("features/catalog/purchases/", "ml/projects/repeat_purchase.py")
PRODUCT = ("dags", "features", "infra", "ml", "serving")
BESIDE = ("Makefile", "docker-compose.yaml", "pyproject.toml", ".ci/run", ".dockerignore")
DOMAIN = domain("purchases")
PROJECT = project("repeat_purchase")


def product_files() -> Iterator[Path]:
    """The files of the product, without the caches of the interpreter."""
    for folder in PRODUCT:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
    yield from (ROOT / name for name in BESIDE)


def names() -> set[str]:
    """Every name that the domain declares, and the words for its subject."""
    return {
        "purchase",
        "cdnow",
        DOMAIN.name,
        DOMAIN.predictions_topic,
        PROJECT.name,
        RECORDING.source.package,
        *(event.name for event in DOMAIN.events),
        *(event.record.__name__ for event in DOMAIN.events),
        *(view.name for view in DOMAIN.views),
        *(service.name for service in DOMAIN.services),
        *(label.name for label in DOMAIN.labels),
    } - shared_names()


def shared_names() -> set[str]:
    """Records of other domains may be called the same."""
    return {e.record.__name__ for d in domains() if d is not DOMAIN for e in d.events}


def test_no_file_outside_the_domain_names_it() -> None:
    pattern = re.compile("|".join(map(re.escape, sorted(names()))), re.IGNORECASE)
    files = [str(f.relative_to(ROOT)) for f in product_files()]
    others = [f for f in files if not f.startswith(OWN)]
    assert len(others) > 150
    assert len(others) < len(files)
    assert [f for f in others if pattern.search(f)] == []
    matches = {f: pattern.findall((ROOT / f).read_text(errors="replace")) for f in others}
    assert {f: hits for f, hits in matches.items() if hits} == {}


def test_the_product_discovers_the_domain_by_its_folder() -> None:
    assert DOMAIN in domains()
    assert set(DOMAIN.events) <= set(event_types())
    assert PROJECT in projects()
    assert has_recording(DOMAIN.name)
    assert recording_of(DOMAIN.name) is RECORDING


def test_the_domain_has_its_own_topics_schemas_and_output_topic() -> None:
    events = {event.name for event in DOMAIN.events}
    assert events | {DOMAIN.predictions_topic} <= {spec.name for spec in topic_specs(domains())}
    paths = [f.path for f in schema_files(domains())]
    schemas = {path for path in paths if path.parts[-3] == DOMAIN.name}
    assert {path.name.rsplit(".v", 1)[0] for path in schemas} == events
    others = [d for d in domains() if d is not DOMAIN]
    assert others
    assert DOMAIN.predictions_topic not in {d.predictions_topic for d in others}


def test_the_project_uses_the_service_and_label_of_the_domain() -> None:
    assert PROJECT.domain == DOMAIN.name
    assert PROJECT.service in DOMAIN.services
    assert PROJECT.label in DOMAIN.labels
