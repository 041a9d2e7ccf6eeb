"""The blocks of code in README and docs are true: Python runs, commands exist, data parse."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.command_line import check, commands, is_cheap, output, reads_as, run_python
from tests.docs.pages import Block, blocks, name_of, pages

PARSERS = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
PICTURES = {"text", "mermaid"}
SHELL = {"bash", "console"}
PYTHON = {"python", "setup"}

# Blocks that are checked, but not run, by page. A new one has to be added here with open eyes.
NOT_RUN: dict[str, int] = {
    "CONTRIBUTING.md": 3,
    "README.md": 1,
    "docs/explanation/declarations.md": 1,
    "docs/explanation/models.md": 1,
    "docs/explanation/training_sets.md": 1,
    "docs/how-to/add-a-feature.md": 2,
    "docs/how-to/add-a-model.md": 2,
    "docs/how-to/back-up.md": 2,
    "docs/how-to/change-an-event.md": 1,
    "docs/how-to/deploy.md": 3,
    "docs/how-to/operate.md": 3,
    "docs/reference/benchmarks.md": 1,
    "docs/reference/purchases.md": 1,
    "docs/reference/security.md": 1,
    "docs/tutorial/first-project.md": 7,
}

ALL = [block for page in pages() for block in blocks(page)]
WITH_PYTHON = sorted({b.page for b in ALL if b.language in PYTHON or b.file})


def of(*languages: str) -> list[Any]:
    return [pytest.param(b, id=b.place) for b in ALL if b.language in languages]


def test_every_fence_is_read_as_a_block() -> None:
    for page in pages():
        fences = re.findall(r"^ *```", page.read_text(), re.MULTILINE)
        shown = [b for b in blocks(page) if b.language != "setup"]
        assert len(fences) == 2 * len(shown), name_of(page)


def test_every_block_says_its_language() -> None:
    known = PICTURES | SHELL | PYTHON | PARSERS.keys()
    assert [b.place for b in ALL if b.language not in known] == []


def test_the_blocks_that_are_not_run_are_known() -> None:
    assert Counter(name_of(b.page) for b in ALL if b.not_run) == NOT_RUN


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """The files that a page shows, in a folder for each page that shows any."""
    folders: dict[Path, Path] = {}
    for block in (b for b in ALL if b.file):
        folder = folders.setdefault(block.page, tmp_path_factory.mktemp(block.page.stem))
        file = folder / str(block.file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
    return folders


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs(page: Path, projects: dict[Path, Path]) -> None:
    script = ""
    for block in blocks(page):
        if block.language in PYTHON and not block.file and not block.not_run:
            script += "\n" * (block.line - 1 - script.count("\n"))  # errors name the page's line
            script += block.text
    if page in projects:
        run_python(script, name_of(page), projects[page])
    else:
        exec(compile(script, name_of(page), "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("block", of("bash", "console"))
def test_every_command_exists(block: Block) -> None:
    for words in commands(script_of(block)):
        check(words)


@pytest.mark.slow
@pytest.mark.parametrize("block", of("bash", "console"))
def test_commands_run(block: Block, projects: dict[Path, Path]) -> None:
    if block.not_run:
        return
    for line, expected in transcript(block):
        for words in commands(line):
            assert is_cheap(words), f"{line}: say why it is not run in a comment above the block"
            printed = output(tuple(words), projects.get(block.page))
            if block.language == "console":
                assert reads_as(expected, printed), f"{block.place} shows\n{expected}not\n{printed}"


@pytest.mark.parametrize("block", of("json", "toml", "yaml"))
def test_data_parse(block: Block) -> None:
    PARSERS[block.language](block.text)


def script_of(block: Block) -> str:
    return "\n".join(line for line, _ in transcript(block))


def transcript(block: Block) -> Iterator[tuple[str, str]]:
    """(command line, its output) of a block; a `bash` block shows no output."""
    if block.language == "bash":
        yield block.text, ""
        return
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        yield line, printed
