"""The architecture page lists the packages and layers that import-linter checks."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import DOCS, ROOT

PAGE = DOCS / "explanation" / "architecture.md"

Layers = list[set[str]]


def contracts() -> dict[str, Layers]:
    """Container -> the names of each layer, highest first, as pyproject.toml has them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    by_container: dict[str, Layers] = {}
    for contract in config["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            layers = [set(layer.split(" | ")) for layer in contract["layers"]]
            by_container.update(dict.fromkeys(contract.get("containers", [""]), layers))
    return by_container


def tables() -> dict[str, Layers]:
    """The same, as the page has them: a section `Inside <folder>` for each container."""
    text = PAGE.read_text()
    sections = re.split(r"^##+ (?=The packages|Inside )", text, flags=re.MULTILINE)[1:]
    return {_container(section): _layers(section) for section in sections}


def _container(section: str) -> str:
    inside = re.match(r"Inside `([\w/]+)`", section)
    return inside[1].replace("/", ".") if inside else ""


def _layers(section: str) -> Layers:
    layers: dict[int, set[str]] = {}
    for number, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", section, re.MULTILINE):
        layers.setdefault(int(number), set()).add(name)
    assert list(layers) == list(range(1, len(layers) + 1)), "layers are numbered from 1, in order"
    return list(layers.values())


def modules(folder: Path) -> set[str]:
    """The packages and modules in a folder."""
    files = {f.stem for f in folder.glob("*.py")} - {"__init__"}
    return files | {f.parent.name for f in folder.glob("*/__init__.py")}


def test_the_page_describes_the_containers_of_the_contracts() -> None:
    assert tables().keys() == contracts().keys()


@pytest.mark.parametrize("container", contracts())
def test_the_layers_on_the_page_are_those_of_the_contract(container: str) -> None:
    assert tables()[container] == contracts()[container]


@pytest.mark.parametrize("container", [c for c in contracts() if c])
def test_every_module_is_in_a_layer(container: str) -> None:
    described: set[str] = set().union(*tables()[container])
    assert described == modules(ROOT / container.replace(".", "/"))


def test_the_page_names_every_root_package() -> None:
    config: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    roots = set(config["tool"]["importlinter"]["root_packages"])
    assert set().union(*tables()[""]) == roots
