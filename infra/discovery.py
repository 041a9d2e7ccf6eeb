"""Declarations that are found by their module: no list names them."""

import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from infra.errors import DeclarationMistake, EventideError


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A module or folder whose declaration cannot be used, and why. The others can."""

    name: str
    mistake: DeclarationMistake


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """What the modules of a package declare, by name, and those that cannot be used."""

    declared: tuple[Any, ...]
    refused: tuple[Refused, ...]


def discover(package: ModuleType, attribute: str, kind: type) -> Discovered:
    """The `attribute`, of type `kind`, of each module in `package`, sorted by name.

    A mistake in one module leaves the others as they are.
    """
    by_module = list(each_module(package, attribute, kind))
    refused = tuple(
        Refused(name=name, mistake=d) for name, d in by_module if isinstance(d, DeclarationMistake)
    )
    warn_of(refused)
    declared = [d for _, d in by_module if not isinstance(d, DeclarationMistake)]
    return Discovered(
        declared=tuple(sorted(declared, key=lambda d: str(d.name))),
        refused=refused,
    )


def each_module(
    package: ModuleType, attribute: str, kind: type
) -> Iterator[tuple[str, Any | DeclarationMistake]]:
    """(module, what it declares or why that cannot be used), one after the other."""
    yield from _without_module(package)
    for module in pkgutil.iter_modules(package.__path__):
        try:
            yield module.name, _declaration(package, module.name, attribute, kind)
        except DeclarationMistake as mistake:
            yield module.name, mistake


@contextmanager
def forgetting_imports(*packages: ModuleType) -> Iterator[None]:
    """Modules of these packages that are imported inside are imported again when they are used
    again: what a check has made of a wrong declaration must not be used."""
    before = set(sys.modules)
    try:
        yield
    finally:
        for package in packages:
            for name in [n for n in sys.modules if n.startswith(f"{package.__name__}.")]:
                if name not in before:
                    del sys.modules[name]


def warn_of(refused: Iterable[Refused]) -> None:
    """Let every command that uses the declarations say which were refused."""
    met.extend(r for r in refused if r not in met)


met: list[Refused] = []
"""What was refused in this process so far."""


def by_name(discovered: Discovered, name: str, *, kind: str, error: type[EventideError]) -> Any:
    """The declaration called `name`.

    Raises:
        DeclarationMistake: it cannot be used.
        error: there is none; its hint lists the names that exist.
    """
    for refused in discovered.refused:
        if refused.name == name:
            raise refused.mistake
    declarations = {d.name: d for d in discovered.declared}
    if name not in declarations:
        raise error(f"no {kind} {name!r}", hint=f"declared: {list(declarations)}")
    return declarations[name]


def as_mistake(error: BaseException, *inside: Path) -> DeclarationMistake:
    """Why a module in one of the folders could not be imported, in one sentence, with its line."""
    if isinstance(error, DeclarationMistake):
        return error
    if isinstance(error, SyntaxError):
        return DeclarationMistake(
            f"the file is no Python: {error.msg}", place=f"{error.filename}:{error.lineno}"
        )
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if any(Path(f.filename).is_relative_to(i) for i in inside)]
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else str(inside[0])
    what = "cannot be imported" if isinstance(error, ImportError) else type(error).__name__
    return DeclarationMistake(f"{what}: {error}", place=place)


def _declaration(package: ModuleType, name: str, attribute: str, kind: type) -> Any:
    """What one module declares.

    Raises:
        DeclarationMistake: it cannot be imported, or declares nothing of that kind.
    """
    try:
        module = importlib.import_module(f"{package.__name__}.{name}")
    except (Exception, SystemExit) as error:  # a module may run any code
        raise as_mistake(error, *map(Path, package.__path__)) from error
    value = getattr(module, attribute, None)
    if not isinstance(value, kind):
        what = "declares no" if value is None else f"has a {type(value).__name__} as"
        raise DeclarationMistake(
            f"{name} {what} {attribute}",
            place=str(module.__file__),
            hint=f"declare `{attribute} = {kind.__name__}(...)` in it, or remove it",
        )
    return value


def _without_module(package: ModuleType) -> Iterator[tuple[str, DeclarationMistake]]:
    """Folders that Python would pass over without a word. What a checkout leaves is no mistake."""
    for folder in sorted(f for path in package.__path__ for f in Path(path).iterdir()):
        if not folder.is_dir() or folder.name.startswith((".", "_")):
            continue
        content = {f.name for f in folder.iterdir()}
        if "__init__.py" in content or content == {"__pycache__"}:
            continue
        yield (
            folder.name,
            DeclarationMistake(
                f"the folder {folder.name} has no __init__.py"
                if content
                else "the folder is empty",
                place=str(folder),
                hint="add an `__init__.py` with its declaration, or remove the folder",
            ),
        )
