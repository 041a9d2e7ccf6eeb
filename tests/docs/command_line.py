"""Commands as a page shows them: whether they exist, and which of them are run."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer.main
import yaml

from infra.cli import build_app
from tests.docs.pages import ROOT

CHEAP = (
    ("check",),
    ("features", "check"),
    ("features", "list"),
    ("features", "describe"),
    ("settings",),
)
"""Commands that read declarations only: no server, nothing written."""

KNOWN_TOOLS = {"cd", "cp", "curl", "export", "git", "kill", "mkdir", "pg_dump", "psql", "rm", "tar"}
RUN = "import sys; from tests.docs.command_line import run_inside; run_inside(*sys.argv[1:])"


class NoSuchCommand(Exception):
    """A page shows a command that cannot be typed."""


def commands(script: str) -> list[list[str]]:
    """The commands of a shell script, as words; assignments before a command are left out."""
    joined = script.replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
    return [words for line in lines for words in _simple(line) if words]


def check(words: Sequence[str]) -> None:
    """Raises NoSuchCommand unless the command exists and takes these options."""
    program, arguments = Path(words[0]).name, list(words[1:])
    if program == "eventide":
        _check_eventide(arguments)
    elif program == "make":
        _require([a for a in arguments if "=" not in a and a not in _targets()], words)
    elif program == "docker":
        _check_compose(arguments)
    elif program == "python":
        modules = arguments[1:2] if arguments[0] == "-m" else []
        _require([m for m in modules if not find_spec(m)], words)
    elif program == "pytest":
        paths = [a for a in arguments if not a.startswith("-")]
        _require([p for p in paths if not (ROOT / p.split("::")[0]).exists()], words)
    elif "/" in words[0]:
        _require([w for w in words[:1] if not (ROOT / w).is_file()], words)
    else:
        _require([program] if program not in KNOWN_TOOLS else [], words)


def is_cheap(words: Sequence[str]) -> bool:
    """Whether a test runs it for real."""
    arguments = tuple(words[1:])
    cheap = any(arguments[: len(c)] == c for c in CHEAP) or arguments == ("schemas",)
    return words[0] == "eventide" and (cheap or "--help" in arguments)


@cache
def output(words: tuple[str, ...], project: Path | None = None) -> str:
    """What an `eventide` command prints, with the declarations of `project` beside ours."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(project or ""), *words[1:]],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


def run_python(script: str, name: str, project: Path) -> None:
    """Run a script that may import the declarations of `project`; `name` is where it stands."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(project), "-c", name, script],
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run_inside(project: str, *arguments: str) -> None:
    """In a process of its own: one command, or one script, beside the declarations of a project."""
    if project:
        import features.catalog
        import ml.projects

        features.catalog.__path__.append(f"{project}/features/catalog")
        ml.projects.__path__.append(f"{project}/ml/projects")
    if arguments[0] == "-c":
        _, name, script = arguments
        exec(compile(script, name, "exec"), {"__name__": "page"})
    else:
        build_app()(arguments)


def reads_as(expected: str, printed: str) -> bool:
    """Whether a page's output is what was printed; a line `...` stands for any lines."""
    pattern = re.escape(expected.strip()).replace(r"\.\.\.", r"[^\n]*(?:\n[^\n]*)*?")
    return re.fullmatch(pattern, printed.strip()) is not None


def _simple(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    if ">" in words:
        words = words[: words.index(">")]
    for word in [*words, ";"]:
        if word in {";", "&", "&&", "|"}:
            yield command
            command = []
        elif command or not re.match(r"[A-Z_]+=", word):
            command.append(word)


def _check_eventide(arguments: list[str]) -> None:
    command: Any = typer.main.get_command(build_app())
    path = ["eventide"]
    try:
        while hasattr(command, "commands"):
            name, *arguments = arguments
            if name in {"--help", "-h"}:
                return
            command = command.commands[name]
            path.append(name)
        if "--help" not in arguments:
            command.make_context(" ".join(path), list(arguments))
    except Exception as error:
        raise NoSuchCommand(f"{' '.join(path)} {arguments}: {error!r}") from error


def _check_compose(arguments: list[str]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    _require([a for a in arguments[:1] if a != "compose"], arguments)
    verb, *rest = [a for a in arguments[1:] if a not in {"--rm", "-T"}]
    if verb in {"run", "exec"}:
        _require([s for s in rest[:1] if s not in compose["services"]], arguments)
        if rest[0] == "eventide":
            _check_eventide(rest[1:])
    else:
        _require(
            [] if verb in {"build", "up", "down", "ps", "stop", "start"} else [verb], arguments
        )


def _require(unknown: Sequence[str], words: Sequence[str]) -> None:
    if unknown:
        raise NoSuchCommand(f"{' '.join(words)}: there is no {', '.join(unknown)}")


@cache
def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def _environment() -> dict[str, str]:
    """Without the settings of the shell that runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVENTIDE_")}
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
