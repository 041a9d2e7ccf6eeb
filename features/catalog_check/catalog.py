"""Checks a whole catalog: every folder is imported, and every mistake of it is collected."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from features.catalog_check import domain_mistakes, summary
from features.catalog_check.mistakes import Mistake, mistake_at, mistake_of
from features.definitions import Domain
from features.definitions.declaration import place_of
from features.definitions.recordings import Recording
from features.definitions.validation import collecting
from infra.discovery import as_mistake, each_module
from infra.errors import DeclarationMistake


@dataclass(frozen=True, kw_only=True)
class CatalogReport:
    """The domains by name, as far as they could be read, and every mistake."""

    domains: dict[str, Domain | None]
    mistakes: list[Mistake]


def check_catalog(package: ModuleType) -> CatalogReport:
    """Check every domain in `package`.

    A declaration with a mistake is replaced by an unfinished one, so that its file is read to the
    end. Nothing may use it: see `forgetting_imports`.
    """
    domains: dict[str, Domain | None] = {}
    mistakes: list[Mistake] = []
    with collecting() as noted:
        for name, declared in each_module(package, "DOMAIN", Domain):
            own = [mistake_of(m, name) for m in noted]
            noted.clear()
            domains[name] = None if isinstance(declared, DeclarationMistake) else declared
            if isinstance(declared, DeclarationMistake) and not (own and is_consequence(declared)):
                own.append(mistake_of(declared, name))
            mistakes += own
        mistakes += _of_domains(domains)
        for name in domains:
            mistakes += _of_recording(package, name)
            mistakes += [mistake_of(m, name) for m in noted]
            noted.clear()
    return CatalogReport(domains=domains, mistakes=list(dict.fromkeys(mistakes)))


def is_consequence(error: DeclarationMistake) -> bool:
    """Whether a module failed on what an unfinished declaration lacks: not on its own syntax."""
    cause = error.__cause__
    return cause is not None and not isinstance(cause, SyntaxError | ImportError)


def rows(report: CatalogReport) -> list[dict[str, object]]:
    """The report as JSON types, one row a domain."""
    counts: dict[str, object] = {"events": 0, "views": 0, "services": 0}
    made = []
    for name, domain in sorted(report.domains.items()):
        own = [m for m in report.mistakes if name in m.domain.split(", ")]
        declared = {"domain": name, **counts} if own or domain is None else summary(domain)
        made.append({**declared, "mistakes": own})
    return made


def _of_domains(domains: dict[str, Domain | None]) -> Iterator[Mistake]:
    """The mistakes of what could be read."""
    for folder, domain in domains.items():
        if domain is not None and domain.name != folder:
            mistake = f"the domain is called {domain.name!r}, not like its folder {folder!r}"
            yield mistake_at(place_of(domain), folder, mistake, "give both the same name")
    yield from domain_mistakes([d for d in domains.values() if d is not None])


def _of_recording(package: ModuleType, name: str) -> Iterator[Mistake]:
    """The mistakes of a domain's recording, if it has one."""
    folder = Path(next(iter(package.__path__))) / name
    if not (folder / "recording.py").is_file() or not (folder / "__init__.py").is_file():
        return
    try:
        module = importlib.import_module(f"{package.__name__}.{name}.recording")
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a module may run any code
        yield mistake_of(as_mistake(error, folder), name)
        return
    recording = getattr(module, "RECORDING", None)
    if not isinstance(recording, Recording):
        place = str(module.__file__)
        yield mistake_at(place, name, "the recording declares no RECORDING")
    elif recording.name != name:
        yield mistake_at(
            place_of(recording),
            name,
            f"the recording is called {recording.name!r}, not like its folder {name!r}",
        )
