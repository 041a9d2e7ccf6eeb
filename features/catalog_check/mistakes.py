"""What the check reports: one mistake, where it is declared, and what to do."""

from dataclasses import dataclass

from features.definitions.declaration import place_of
from infra.errors import DeclarationMistake


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake of a declaration. `domain`: the domain or project that it stops."""

    domain: str
    mistake: str
    file: str = ""
    line: int | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        remedy = f"\n    {self.remedy}" if self.remedy else ""
        return f"{place}{self.mistake}{remedy}"


def mistake_of(error: DeclarationMistake, domain: str, declaration: object = None) -> Mistake:
    """The mistake that an error reports; `declaration` has its place where the error has none."""
    return mistake_at(error.place or place_of(declaration), domain, error.mistake, error.hint)


def mistake_at(place: str, domain: str, mistake: str, remedy: str | None = None) -> Mistake:
    """A mistake at a place such as `features/catalog/shop/views.py:12`."""
    file, _, line = place.rpartition(":")
    if not line.isdigit():
        return Mistake(domain=domain, mistake=mistake, file=place, remedy=remedy)
    return Mistake(domain=domain, mistake=mistake, file=file, line=int(line), remedy=remedy)
