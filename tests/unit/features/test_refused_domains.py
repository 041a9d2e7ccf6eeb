"""A domain with a mistake is left out of every process and said; the others go on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ml.projects
from features import catalog
from features.bootstrap.declarations import load_declarations, require_all_domains
from features.bootstrap.stores import declared_views
from features.errors import DeclarationError
from infra import cli, discovery
from infra.errors import DeclarationMistake
from ml import projects
from tests.unit.features.catalog_check.test_catalog import DOMAIN

FRACTIONS = DOMAIN.replace('e["cents"]', 'e["cents"] / 2')
NO_SUM = "view made_fractions_sales: column 'c' is not of whole numbers"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A second folder of domains and projects."""
    for package, name in ((catalog, "domains"), (ml.projects, "projects")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / name)])
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    catalog._further_refused.clear()
    catalog._discovered.cache_clear()
    projects.discovered.cache_clear()
    discovery.met.clear()
    for name in [
        n for n in sys.modules if n.startswith(("features.catalog.made_", "ml.projects.made_"))
    ]:
        del sys.modules[name]


def add(folder: Path, name: str, text: str = DOMAIN) -> None:
    (folder / "domains" / name).mkdir()
    (folder / "domains" / name / "__init__.py").write_text(text.format(name=name))


def test_a_domain_that_cannot_be_imported_or_computed_is_left_out(folder: Path) -> None:
    sound = {d.name for d in catalog.domains()}
    add(folder, "made_torn", "x = (")
    add(folder, "made_fractions", FRACTIONS)
    add(folder, "made_sound")
    forget()
    load_declarations()

    assert {d.name for d in catalog.domains()} == {*sound, "made_sound"}
    assert {v.name for v in declared_views()} >= {"made_sound_sales", "customer_purchases"}
    reasons = {r.name: r.mistake.mistake for r in catalog.refused()}
    assert reasons["made_torn"] == "the file is no Python: '(' was never closed"
    assert reasons["made_fractions"].startswith(NO_SUM)
    assert "made_fractions/__init__.py:" in str(dict(zip(reasons, catalog.refused(), strict=True)))
    with pytest.raises(DeclarationMistake, match="the file is no Python"):
        catalog.domain("made_torn")


def test_domains_that_share_a_name_are_both_left_out(folder: Path) -> None:
    add(folder, "made_one")
    add(folder, "made_two", DOMAIN.replace("{name}_sales", "made_one_sales"))
    forget()
    assert not {"made_one", "made_two"} & {d.name for d in catalog.domains()}
    assert {"flights", "purchases"} <= {d.name for d in catalog.domains()}


def test_a_rebuild_that_would_lose_a_domain_is_refused(folder: Path) -> None:
    add(folder, "made_fractions", FRACTIONS)
    forget()
    with pytest.raises(DeclarationError, match=NO_SUM):
        require_all_domains()


def test_a_project_with_a_mistake_is_left_out_and_raises_its_reason(folder: Path) -> None:
    (folder / "projects" / "made_model.py").write_text("1 / 0")
    forget()
    assert {"flight_delay", "repeat_purchase"} <= {p.name for p in projects.projects()}
    assert [r.name for r in projects.refused()] == ["made_model"]
    with pytest.raises(DeclarationMistake, match="ZeroDivisionError: division by zero"):
        projects.project("made_model")


def test_every_command_says_which_domains_are_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, "made_torn", "x = (")
    forget()
    monkeypatch.setattr(sys, "argv", ["eventide", "features", "list"])
    with pytest.raises(SystemExit):
        cli.main()
    out, err = capsys.readouterr()
    assert "origin_schedule" in out
    assert "warning: made_torn is not used: the file is no Python" in err


def test_the_check_ends_with_exit_code_1_and_lists_every_mistake(folder: Path) -> None:
    add(folder, "made_torn", "x = (")
    add(folder, "made_wrong", DOMAIN.replace('key="shop"', 'key="shp"'))
    forget()
    for command in (["features", "check"], ["check"]):
        result = CliRunner().invoke(cli.build_app(), command)
        assert result.exit_code == 1
        assert "the file is no Python: '(' was never closed" in result.output
        assert "made_wrong.sold: its record has no field 'shp'" in result.output
        assert "flights: 8 events, 15 views, 1 service: valid" in result.output
