"""Deprecated: the declaration API is `features.definitions`. This name goes in the next release."""

import warnings

from features.definitions import *  # noqa: F403

warnings.warn(
    "`features.vocabulary` is now `features.definitions`; the old name goes in the next release",
    DeprecationWarning,
    stacklevel=2,
)
