"""Declarations are found by their module and looked up by their name."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import ml.projects
from infra.discovery import by_name, discover, met
from infra.errors import DeclarationMistake, EventideError
from ml.project import ModelProject


class Thing:
    """What the modules of these tests declare."""

    def __init__(self, name: str) -> None:
        self.name = name


SOUND = "from tests.unit.infra.test_discovery import Thing\nTHING = Thing('{}')\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package of one sound module; what a test adds is next to it."""
    folder = tmp_path / "made_here"
    write(folder / "__init__.py", "")
    write(folder / "sound.py", SOUND.format("sound"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("made_here")
    for name in [n for n in sys.modules if n.split(".")[0] == "made_here"]:
        del sys.modules[name]
    met.clear()


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def folder_of(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


def test_every_module_of_a_package_is_a_declaration_and_they_are_sorted_by_name() -> None:
    discovered = discover(ml.projects, "PROJECT", ModelProject)
    names = [d.name for d in discovered.declared]

    assert {"flight_delay", "repeat_purchase"} <= set(names)
    assert names == sorted(names)
    assert discovered.refused == ()


@pytest.mark.parametrize(
    ("file", "text", "mistake"),
    [
        ("wrong.py", "x = (", "the file is no Python: '\\(' was never closed .*wrong.py:1"),
        ("wrong.py", "\nimport nowhere", "cannot be imported: No module named 'nowhere' .*py:2"),
        ("wrong.py", "1 / 0", "ZeroDivisionError: division by zero .*wrong.py:1"),
        ("wrong.py", "raise SystemExit(3)", "SystemExit: 3 .*wrong.py:1"),
        ("wrong.py", "", "wrong declares no THING .*wrong.py"),
        ("wrong.py", "THING = ()", "wrong has a tuple as THING"),
        ("wrong/events.py", "", "the folder wrong has no __init__.py"),
    ],
)
def test_a_module_that_cannot_be_used_is_refused_and_the_others_are_used(
    package: ModuleType, file: str, text: str, mistake: str
) -> None:
    write(folder_of(package) / file, text)
    discovered = discover(package, "THING", Thing)

    assert [d.name for d in discovered.declared] == ["sound"]
    assert [r.name for r in discovered.refused] == ["wrong"]
    with pytest.raises(DeclarationMistake, match=mistake):
        by_name(discovered, "wrong", kind="thing", error=EventideError)
    assert met == list(discovered.refused)


def test_an_empty_folder_is_refused_and_one_that_holds_only_caches_is_no_mistake(
    package: ModuleType,
) -> None:
    (folder_of(package) / "empty").mkdir()
    (folder_of(package) / "left" / "__pycache__").mkdir(parents=True)
    discovered = discover(package, "THING", Thing)

    assert [(r.name, r.mistake.mistake) for r in discovered.refused] == [
        ("empty", "the folder is empty")
    ]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    discovered = discover(ml.projects, "PROJECT", ModelProject)

    with pytest.raises(EventideError, match="no project 'nope'") as caught:
        by_name(discovered, "nope", kind="project", error=EventideError)

    assert "flight_delay" in str(caught.value.hint)
