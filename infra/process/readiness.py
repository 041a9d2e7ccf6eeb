"""Whether a process does its work at the moment, and if not, why."""


class Readiness:
    """Set by the loop of a process, read by its health pages from another thread."""

    def __init__(self, *, why_not: str = "starting") -> None:
        self._why_not = why_not

    @property
    def why_not(self) -> str:
        """Why no work is done; "" when it is done."""
        return self._why_not

    def block(self, why: str) -> bool:
        """No work is done because of `why`; False when that was already the reason."""
        is_new = why != self._why_not
        self._why_not = why
        return is_new

    def clear(self) -> None:
        """Work is done."""
        self._why_not = ""
