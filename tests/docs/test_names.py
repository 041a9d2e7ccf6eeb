"""What the pages name is there: files, links, commands, settings, targets."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from features.contracts.codec import CODES
from infra.cli import build_app
from infra.settings import Settings
from infra.settings_table import rows
from tests.docs.pages import DOCS, README, ROOT, blocks, name_of, pages

FOLDERS = "dags|docs|features|infra|ml|serving|tests"
CODE = ("dags", "features", "infra", "ml", "serving", "tests")
OF_SERVERS = {"EVENTIDE_MLFLOW_HOSTS"}  # no settings: the environment of one server
MOVED = ROOT / "CHANGELOG.md"  # names pages as they were called before


def _named(page: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.read_text()))


def _links(page: Path) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link that stays in the repository."""
    for link in _named(page, r"\]\(([^)\s]+)\)"):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            yield path, anchor


def _anchors(page: Path) -> set[str]:
    """The anchors that a Markdown renderer makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", [p for p in pages() if p != MOVED], ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    own = "".join(f"{block.file}\n" for block in blocks(page) if block.file)
    files = {f for f in _named(page, rf"`((?:{FOLDERS})/[\w/.-]+)`") if f not in own}
    assert [f for f in files if not (ROOT / f).exists()] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    targets = {(page.parent / path if path else page, anchor) for path, anchor in _links(page)}
    assert [t for t, _ in targets if not t.exists()] == []
    assert [(t, a) for t, a in targets if a and a not in _anchors(t)] == []


def test_every_page_is_linked_from_the_index() -> None:
    index = DOCS / "README.md"
    decisions = DOCS / "explanation" / "decisions"
    linked = {
        (start.parent / path).resolve()
        for start in (index, decisions / "README.md")
        for path, _ in _links(start)
    }
    assert [name_of(p) for p in DOCS.rglob("*.md") if p not in linked and p != index] == []


def test_every_page_that_the_code_names_is_there() -> None:
    named: dict[str, str] = {}
    files = [f for folder in CODE for f in (ROOT / folder).rglob("*.py")]
    for file in [*files, ROOT / "docker-compose.yaml", ROOT / "Makefile"]:
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text()):
            named[page] = str(file)
    assert named
    assert {page: file for page, file in named.items() if not (ROOT / page).is_file()} == {}


def test_every_decision_is_linked_from_the_code_that_it_explains() -> None:
    code = "".join(f.read_text() for folder in CODE[:-1] for f in (ROOT / folder).rglob("*.py"))
    layout = "0009-package-layout.md"  # that is for `pyproject.toml` and the architecture page
    decisions = (DOCS / "explanation" / "decisions").glob("0*.md")
    assert [d.name for d in decisions if d.name not in code and d.name != layout] == []


def _commands() -> set[str]:
    """Every command, as it is typed after `eventide`."""
    app: Any = typer.main.get_command(build_app())
    return {
        " ".join(filter(None, (name, inner)))
        for name, command in app.commands.items()
        for inner in getattr(command, "commands", ("",))
    }


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    groups = "|".join({command.split()[0] for command in _commands() if " " in command})
    named = _named(page, rf"`eventide ((?:{groups}) [a-z-]+|(?!(?:{groups})\b)[a-z]+)(?=[ `\n])")
    assert named <= _commands()


def test_the_readme_names_every_command() -> None:
    named = _named(README, r"`(?:eventide )?(?:[a-z]+ )?([a-z-]+)`")
    assert {command.split()[-1] for command in _commands()} - named == set()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_target_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert _named(page, r"`make ([a-z-]+)") <= targets


def test_every_reason_of_a_dead_letter_is_on_its_page() -> None:
    text = (DOCS / "explanation" / "delivery.md").read_text()
    assert [code for code in CODES if f"| `{code}` |" not in text] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_setting_that_a_page_names_is_there(page: Path) -> None:
    known = {row.variable for row in rows(Settings())} | {"EVENTIDE_STATE_DIR"} | OF_SERVERS
    named = _named(page, r"`(EVENTIDE_[A-Z_]+[A-Z])[`=]")
    assert {n for n in named if n not in known} == set()
