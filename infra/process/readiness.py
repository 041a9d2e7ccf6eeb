"""Whether a process does its work at the moment, and if not, why."""


class Readiness:
    """Set by the loop of a process, read by its health pages from another thread."""

    def __init__(self, *, reason: str = "starting") -> None:
        self._reason = reason

    @property
    def reason(self) -> str:
        """Why no work is done; "" while it is done."""
        return self._reason

    def block(self, reason: str) -> bool:
        """No work is done because of `reason`; False when that was already the reason."""
        is_new = reason != self._reason
        self._reason = reason
        return is_new

    def clear(self) -> None:
        """Work is done."""
        self._reason = ""
