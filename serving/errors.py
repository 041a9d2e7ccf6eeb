"""What can go wrong while predictions are served."""

from infra.errors import EventideError


class ServingError(EventideError):
    """The root of this package's errors."""


class ModelUnavailable(ServingError):
    """The source of models did not respond, or does not have the files; trying again may help."""


class ModelRefused(ServingError):
    """The files are what was registered, but this service cannot use them."""


class ModelFails(ServingError):
    """The model scores neither requests nor rows that it knows, so the cause is the model."""

    hint = "move the champion alias to a version that works; serving then continues by itself"
