"""The models. Each module declares one as `PROJECT`; nothing lists them. Imports nothing heavy."""

import importlib
import pkgutil
from functools import cache

from ml.errors import InvalidProject
from ml.project import ModelProject


@cache
def projects() -> tuple[ModelProject, ...]:
    """Every declared project, by name."""
    declared = [
        importlib.import_module(f"{__name__}.{module.name}").PROJECT
        for module in pkgutil.iter_modules(__path__)
    ]
    return tuple(sorted(declared, key=lambda p: p.name))


def project(name: str) -> ModelProject:
    """The project of that name.

    Raises:
        InvalidProject: there is none.
    """
    for declared in projects():
        if declared.name == name:
            return declared
    raise InvalidProject(f"no project {name!r}", hint=f"declared: {[p.name for p in projects()]}")
