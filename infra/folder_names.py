"""Names of folders that a library below us does not bear."""

import re

LONGEST_BYTES = 800
"""Of the path of a state folder: PostgreSQL takes paths of 1,024 bytes."""

_FOR_TABLES = re.compile(r"%[0-9A-Fa-f]{2}|[=\[\]^|\\*?]")


def unusable(path: str) -> str:
    """Why no data can lie in this folder; empty when they can."""
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in path):
        return "has a control character in its name"
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if length > LONGEST_BYTES:
        return f"has a path of {length} bytes; {LONGEST_BYTES} are possible"
    return ""


def unusable_for_tables(path: str) -> str:
    """The same for the folder of the offline store.

    Measured with deltalake 1.6 and polars 2: they take a path for a URL, and a part of it that has
    a = for a column and its value. polars expands * and ?, and would read the folder beside too.
    """
    if unbearable := _FOR_TABLES.search(path):
        return (
            f"has {unbearable[0]!r} in its name, which the library of the offline store cannot bear"
        )
    return unusable(path)
