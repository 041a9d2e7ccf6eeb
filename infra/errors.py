"""The root of all errors. The message of each error is one sentence."""


class EventideError(Exception):
    """The root of every error that Eventide raises on purpose.

    The command line prints its sentence and `hint` instead of a traceback, and ends with its
    `exit_code`.
    """

    hint: str | None = None
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class DeclarationMistake(EventideError):
    """A declaration contradicts itself. `mistake`: one sentence. `place`: its file and line, if
    they are known."""

    def __init__(self, mistake: str, *, place: str = "", hint: str | None = None) -> None:
        self.mistake, self.place = mistake, place
        super().__init__(f"{mistake} ({place})" if place else mistake, hint=hint)
