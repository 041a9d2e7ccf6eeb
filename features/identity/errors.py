"""Why something has no identity."""

from collections.abc import Sequence

from features.errors import DeclarationError


class NoStableIdentity(DeclarationError):
    """A formula reaches something that is not the same in every process.

    `trail`: the names on the way from the formula to it.
    """

    def __init__(self, what: str, *, trail: Sequence[str], remedy: str) -> None:
        self.what, self.trail = what, tuple(trail)
        where = " -> ".join(self.trail)
        super().__init__(f"{where}: {what}, so it has no stable identity", hint=remedy)
