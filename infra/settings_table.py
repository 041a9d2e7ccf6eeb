"""Every setting as a table: the variable that sets it, its value now, and what it means."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from infra.masking import masked


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """One setting of a process."""

    variable: str
    value: str
    meaning: str


def rows(settings: BaseSettings) -> list[SettingRow]:
    """All settings, nested ones with their whole variable, in the order of their declaration."""
    return list(_rows(settings, str(settings.model_config.get("env_prefix", ""))))


def _rows(model: BaseModel, prefix: str) -> Iterator[SettingRow]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _rows(value, f"{prefix}{name}__")
        else:
            yield SettingRow(
                variable=f"{prefix}{name}".upper(),
                value="" if value is None else masked(str(value)),
                meaning=field.description or "",
            )
