"""The models. Each module here declares one as `PROJECT`; nothing else lists them."""

import importlib
import pkgutil
from functools import cache

from ml.errors import InvalidProject
from ml.project import ModelProject


@cache
def projects() -> tuple[ModelProject, ...]:
    """Every declared project, by name."""
    found = [
        importlib.import_module(f"{__name__}.{module.name}").PROJECT
        for module in pkgutil.iter_modules(__path__)
    ]
    return tuple(sorted(found, key=lambda p: p.name))


def project(name: str) -> ModelProject:
    """The project of that name.

    Raises:
        InvalidProject: there is none.
    """
    for found in projects():
        if found.name == name:
            return found
    raise InvalidProject(f"no project {name!r}", hint=f"declared: {[p.name for p in projects()]}")
