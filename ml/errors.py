"""What can go wrong between history and a promoted model."""

from infra.errors import DeclarationMistake, EventideError


class MlError(EventideError):
    """The root of this package's errors."""


class InvalidProject(MlError, DeclarationMistake):
    """A project contradicts itself or its service; importing its module shows it."""


class DataContractBroken(MlError):
    """The training set violates a critical expectation; a retry with the same data cannot help."""


class UnsupportedPipeline(MlError):
    """A candidate has parts that cannot be written as plain data."""


class BundleRefused(MlError):
    """A bundle does not match its manifest; no part of it is used."""


class StepHeld(MlError):
    """A step does not run, because an earlier one has ended the run for a stated reason."""


class RegistryUnavailable(MlError):
    """MLflow did not respond or refused the call; trying again may help."""


class RegistryConflict(MlError):
    """The registry does not hold what was just written: another process promotes a version."""


class NothingToReport(MlError):
    """There are no predictions, or none of them has a label yet."""
