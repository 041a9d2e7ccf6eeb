"""What the pages name is there: files, links, commands, settings."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from features.contracts.codec import CODES
from infra.cli import build_app
from infra.settings import Settings
from infra.settings_table import rows

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "dags|docs|features|infra|ml|serving|tests"


def _named(page: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    files = _named(page, rf"`((?:{FOLDERS})/[\w/.-]+)`")
    links = {link for link in _named(page, r"\]\(([^)#]+)\)") if "://" not in link}
    assert [f for f in files if not (ROOT / f).exists()] == []
    assert [link for link in links if not (page.parent / link).exists()] == []


def _commands() -> set[str]:
    """Every command, as it is typed after `eventide`."""
    app: Any = typer.main.get_command(build_app())
    return {
        " ".join(filter(None, (name, inner)))
        for name, command in app.commands.items()
        for inner in getattr(command, "commands", ("",))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    named = _named(page, r"\beventide (features [a-z]+|(?!features)[a-z]+)(?=[ `\n])")
    assert named <= _commands()


def test_the_readme_names_every_command() -> None:
    named = _named(README, r"`(?:eventide )?(?:features )?([a-z]+)`")
    assert {command.split()[-1] for command in _commands()} - named == set()


def test_every_reason_of_a_dead_letter_is_on_its_page() -> None:
    text = (ROOT / "docs" / "delivery.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_setting_that_a_page_names_is_there(page: Path) -> None:
    known = {row.variable for row in rows(Settings())} | {"EVENTIDE_STATE_DIR"}
    named = _named(page, r"`(EVENTIDE_[A-Z_]+[A-Z])[`=]")
    assert {n for n in named if not any(k.startswith(n) for k in known)} == set()
