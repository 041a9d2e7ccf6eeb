"""Reports a mistake in a declaration, with the file and line that declares it."""

import dataclasses
import sys
from pathlib import Path

from features.errors import DeclarationError

_DEFINITIONS = Path(__file__).parent
_GENERATED = "<string>"  # dataclasses write their __init__ as text
_REPLACE = dataclasses.__file__


def require(holds: bool, mistake: str) -> None:
    """Raises DeclarationError, with file and line of the declaration, unless it holds."""
    if not holds:
        raise DeclarationError(f"{mistake} ({_declared_at()})")


def _declared_at() -> str:
    """File and line of the nearest caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_internal(file: str) -> bool:
    return file in (_GENERATED, _REPLACE) or Path(file).parent == _DEFINITIONS
