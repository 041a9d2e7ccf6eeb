"""The pages of the documentation, and the blocks of code in them.

A comment directly above a block says what it is:

    <!-- not run: WHY -->     it cannot be run here; `test_blocks.py` counts these
    <!-- file: PATH -->       the text of a file, which the other blocks of its page may import

`<!-- setup ... -->` holds Python that a reader need not see, and that a fragment needs to run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

_PART = re.compile(
    r"^(?: *<!-- (?P<marker>not run|file): (?P<value>.+?) -->\n)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$"
    r"|^(?P<margin> *)<!-- setup\n(?P<setup>.*?)^(?P=margin)-->$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of code, with the line of its page on which the code begins."""

    page: Path
    line: int
    language: str  # "setup" for hidden Python
    text: str
    not_run: str | None = None
    file: str | None = None

    @property
    def place(self) -> str:
        """Such as `docs/how-to/deploy.md:12`."""
        return f"{name_of(self.page)}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read in the repository."""
    top = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    return [*top, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Its path inside the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page in order, hidden ones among them."""
    text = page.read_text()
    for part in _PART.finditer(text):
        hidden = part["setup"] is not None
        start = part.start("setup" if hidden else "code")
        yield Block(
            page=page,
            line=text.count("\n", 0, start) + 1,
            language="setup" if hidden else part["language"],
            text=_without(
                part["margin" if hidden else "indent"], part["setup" if hidden else "code"]
            ),
            not_run=part["value"] if part["marker"] == "not run" else None,
            file=part["value"] if part["marker"] == "file" else None,
        )


def _without(indent: str, code: str) -> str:
    """A block inside a list is indented as a whole."""
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
