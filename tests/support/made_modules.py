"""Modules made of source text, imported from files as those of a project are."""

import importlib
import sys
from itertools import count
from pathlib import Path
from textwrap import dedent
from types import ModuleType

_NUMBERS = count()


class MadeModules:
    """Writes modules into a folder and imports them, each under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, source: str, *, name: str | None = None) -> ModuleType:
        """The module with that source; in place of one of the same name."""
        name = name or f"made_{next(_NUMBERS)}"
        sys.modules.pop(name, None)
        (self._folder / f"{name}.py").write_text(dedent(source))
        importlib.invalidate_caches()
        sys.path.insert(0, str(self._folder))
        # Two edits within a second, of one size, would be one for the cache of bytecode.
        writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(self._folder))
            sys.dont_write_bytecode = writes
