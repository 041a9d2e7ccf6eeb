"""What the pages name is there: files, links, commands, settings."""

import re
from pathlib import Path

import pytest
import typer.main

from infra.cli import build_app
from infra.settings import Settings
from infra.settings_table import rows

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "dags|docs|features|infra|ml|serving|tests"


def _named(page: Path, pattern: str) -> set[str]:
    return set(re.findall(pattern, page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    files = _named(page, rf"`((?:{FOLDERS})/[\w/.-]+)`")
    links = {link for link in _named(page, r"\]\(([^)#]+)\)") if "://" not in link}
    assert [f for f in files if not (ROOT / f).exists()] == []
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    commands = set(typer.main.get_command(build_app()).commands)  # type: ignore[attr-defined]
    assert _named(page, r"`eventide ([a-z]+)") <= commands


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_setting_that_a_page_names_is_there(page: Path) -> None:
    known = {row.variable for row in rows(Settings())} | {"EVENTIDE_STATE_DIR"}
    named = _named(page, r"`(EVENTIDE_[A-Z_]+[A-Z])[`=]")
    assert {n for n in named if not any(k.startswith(n) for k in known)} == set()
