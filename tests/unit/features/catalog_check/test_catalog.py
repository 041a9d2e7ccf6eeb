"""A whole catalog: all mistakes of all folders in one run, and each stops its own domain only."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from features import catalog
from features.catalog_check.catalog import check_catalog, rows
from features.definitions import Domain
from features.presentation.mistakes import catalog_text
from infra.discovery import discover, met

DOMAIN = """
from datetime import timedelta

from msgspec import Struct

from features.definitions import (
    Aggregation, Column, Domain, Entity, EventType, FeatureView
)


class Sold(Struct, frozen=True, kw_only=True):
    event_id: str
    event_time_us: int
    shop: str
    cents: int


SOLD = EventType(name="{name}.sold", record=Sold, key="shop")
SHOP = Entity(name="shop", keys=("shop",))
SALES = FeatureView(
    name="{name}_sales",
    source=SOLD,
    entity=SHOP,
    columns=(Column(name="c", compute=lambda e: e["cents"], reads=("cents",)),),
    aggregations=(Aggregation(operation="sum", column="c", windows=(timedelta(days=1),)),),
)
DOMAIN = Domain(
    name="{name}",
    events=(SOLD,),
    views=(SALES,),
    services=(),
    labels=(),
    predictions_topic="{name}.predictions",
)
"""
WRONG_TWICE = (
    DOMAIN.replace('key="shop"', 'key="shp"')
    .replace('e["cents"]', 'e["cent"]')
    .replace("timedelta(days=1),", "timedelta(days=1)")
    .replace('keys=("shop",)', 'keys=("shop")')
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A catalog of one sound domain, `sound`."""
    (tmp_path / "made_catalog").mkdir()
    (tmp_path / "made_catalog" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    made = importlib.import_module("made_catalog")
    add(made, "sound")
    yield made
    for name in [n for n in sys.modules if n.split(".")[0] == "made_catalog"]:
        del sys.modules[name]
    met.clear()


def add(package: ModuleType, name: str, text: str = DOMAIN) -> Path:
    """A domain of this name; the file that declares it."""
    folder = Path(str(package.__file__)).parent / name
    folder.mkdir()
    (folder / "__init__.py").write_text(text.format(name=name))
    return folder / "__init__.py"


def lines(package: ModuleType) -> list[tuple[str, str, int | None]]:
    mistakes = check_catalog(package).mistakes
    return [(m.domain, m.mistake, m.line) for m in mistakes]


def line_of(file: Path, text: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if text in line)


def test_a_sound_catalog_has_no_mistake(package: ModuleType) -> None:
    assert lines(package) == []
    assert rows(check_catalog(package)) == [
        {"domain": "sound", "events": 1, "views": 1, "services": 0, "mistakes": []}
    ]


def test_all_mistakes_of_a_file_are_found_at_once_with_their_lines(package: ModuleType) -> None:
    file = add(package, "wrong", WRONG_TWICE)
    assert lines(package) == [
        ("wrong", "event wrong.sold: its record has no field 'shp'", line_of(file, "SOLD =")),
        ("wrong", "Entity 'shop': keys is 'shop', not a tuple of text", line_of(file, "SHOP =")),
        (
            "wrong",
            (
                "Aggregation: windows is timedelta(days=1), not a tuple of a timedelta or a"
                " declared TimeWindow"
            ),
            line_of(file, "aggregations="),
        ),
    ]


def test_a_mistake_in_one_domain_leaves_the_others_in_use(package: ModuleType) -> None:
    add(package, "wrong", WRONG_TWICE)
    add(package, "torn", "x = (")
    discovered = discover(package, "DOMAIN", Domain)
    assert [d.name for d in discovered.declared] == ["sound"]
    assert {r.name: r.mistake.mistake for r in discovered.refused} == {
        "torn": "the file is no Python: '(' was never closed",
        "wrong": "event wrong.sold: its record has no field 'shp'",
    }


def test_names_that_two_domains_share_are_found(package: ModuleType) -> None:
    shared = DOMAIN.replace('"{name}.sold"', '"Sound.Sold"').replace(
        '"{name}_sales"', '"sound_sales"'
    )
    add(package, "thief", shared)
    assert {mistake for _, mistake, _ in lines(package)} == {
        "the domains sound and thief both have a topic called 'Sound.Sold'",
        "the domains sound and thief both have a view called 'sound_sales'",
    }


def test_a_view_that_two_domains_list_is_one_view(package: ModuleType) -> None:
    text = "from made_catalog.sound import *\nfrom dataclasses import replace\n"
    text += 'DOMAIN = replace(DOMAIN, name="second", predictions_topic="second.predictions")\n'
    add(package, "second", text)
    assert lines(package) == []


def test_a_domain_and_a_recording_are_called_like_their_folder(package: ModuleType) -> None:
    file = add(
        package, "shop", DOMAIN.replace('name="{name}",\n    events', 'name="x",\n    events')
    )
    (file.parent / "recording.py").write_text(
        "from features.definitions.recordings import Recording, Source\n"
        'source = Source(package="p", version="1", sha256="0" * 64, licence="MIT")\n'
        'RECORDING = Recording(name="y", source=source, frame=lambda path: None)\n'
    )
    assert [m for _, m, _ in lines(package)] == [
        "the domain is called 'x', not like its folder 'shop'",
        "the recording is called 'y', not like its folder 'shop'",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("x = (", "the file is no Python: '(' was never closed"),
        ("import nowhere", "cannot be imported: No module named 'nowhere'"),
        ("RECORDING = 1", "the recording declares no RECORDING"),
        ("from features.definitions.recordings import Source\nSource(package='p')", None),
    ],
)
def test_a_wrong_recording_is_found(package: ModuleType, text: str, mistake: str | None) -> None:
    (add(package, "shop").parent / "recording.py").write_text(text)
    mistakes = [m for _, m, _ in lines(package)]
    assert mistake is None or mistake in mistakes
    assert mistakes


def test_the_text_for_people_has_each_domain_and_each_mistake_with_its_remedy(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = add(package, "wrong", DOMAIN.replace('key="shop"', 'key="shp"'))
    monkeypatch.chdir(file.parent)
    line = line_of(file, "SOLD =")
    assert catalog_text(check_catalog(package)).splitlines() == [
        "sound: 1 event, 1 view, 0 services: valid",
        "wrong: 1 mistake",
        f"__init__.py:{line}: event wrong.sold: its record has no field 'shp'",
        "    did you mean 'shop'?",
    ]


def test_the_declared_catalog_is_sound() -> None:
    assert check_catalog(catalog).mistakes == []
