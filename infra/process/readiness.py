"""Whether a process takes records, for its health pages."""


class Readiness:
    """The reason why a process takes no records; empty while it does.

    The loop's thread sets it, the thread of the health pages reads it.
    """

    def __init__(self) -> None:
        self.reason = "starting"

    def block(self, reason: str) -> None:
        """No records are taken, for this reason."""
        self.reason = reason

    def clear(self) -> None:
        """Records are taken."""
        self.reason = ""
