"""The reference pages of commands and settings, made from the code.

`python -m tests.docs.reference_pages` writes them; a test compares them with the code.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from infra.cli import build_app
from infra.settings import Settings
from infra.settings_table import rows
from tests.docs.pages import DOCS, ROOT

HOW = "Generated from the code by `python -m tests.docs.reference_pages`; do not edit."
NO_STATE = "/nonexistent"  # without a local stack, whose addresses would win over the defaults


def reference_pages() -> dict[Path, str]:
    """Each generated page with its text."""
    folder = DOCS / "reference"
    return {folder / "commands.md": commands_page(), folder / "settings.md": settings_page()}


def commands_page() -> str:
    """Every command with its arguments and options."""
    app: Any = typer.main.get_command(build_app())
    intro = f"# Commands\n\n{HOW}\n\nEvery command also takes `--help`.\n"
    return "\n".join([intro, *_commands(app, "eventide")])


def settings_page() -> str:
    """Every setting with its default, whatever the environment says."""
    lines = [
        f"# Settings\n\n{HOW}\n",
        "A value comes from the environment, else from `endpoints.json`, which `eventide up`",
        "writes into the state folder, else it is the default. Default folders are in the",
        "checkout.",
        "`eventide settings` prints the values of your shell.\n",
        "| variable | default | meaning |\n| --- | --- | --- |",
    ]
    for row in rows(_defaults()):
        value = row.value.replace(f"{ROOT}/", "")
        shown = f"`{value}`" if value not in {"", "{}"} else ""
        lines.append(f"| `{row.variable}` | {shown} | {_cell(row.meaning)} |")
    return "\n".join(lines) + "\n"


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
            continue
        yield f"## {path} {name}\n\n{command.help.strip()}\n"
        parameters = [p for p in command.params if not p.hidden]
        if parameters:
            yield "| argument or option | default | meaning |\n| --- | --- | --- |"
            yield from (_parameter(p) for p in parameters)
            yield ""


def _parameter(parameter: Any) -> str:
    is_option = parameter.opts[0].startswith("-")
    names = ", ".join(f"`{o}`" if is_option else f"`{o.upper()}`" for o in parameter.opts)
    has_default = parameter.default not in {None, False, ""}
    default = f"`{parameter.default}`" if has_default else "required" * parameter.required
    return f"| {names} | {default} | {_cell(parameter.help or '')} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _defaults() -> Settings:
    kept = {k: os.environ.pop(k) for k in list(os.environ) if k.startswith("EVENTIDE_")}
    os.environ["EVENTIDE_STATE_DIR"] = NO_STATE
    try:
        return Settings(state_dir=ROOT / ".state")
    finally:
        del os.environ["EVENTIDE_STATE_DIR"]
        os.environ.update(kept)


if __name__ == "__main__":
    for page, text in reference_pages().items():
        page.write_text(text)
