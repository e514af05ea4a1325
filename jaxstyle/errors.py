"""The errors that a caller can mend. Each says what is wrong, with which value, and what to do about it."""

from __future__ import annotations


class JaxstyleError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: what is wrong, with the offending value in it.
        remedy: what the caller can do about it; empty only where nothing can be done.
    """

    exit_code = 2

    def __init__(self, what: str, remedy: str = ""):
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}" if remedy else what)


class SettingsError(JaxstyleError):
    """A setting has an impossible value, or two settings contradict each other."""


class SettingsMismatch(JaxstyleError):
    """The output folder belongs to a run with other settings."""


class OutputLocked(JaxstyleError):
    """Another run is writing to the output folder."""


class InputError(JaxstyleError):
    """An input, or the style picture, cannot be used at all."""


class ImageError(JaxstyleError):
    """One picture cannot be read. In a run this becomes a row of the manifest, never the end of the run."""


class WeightsError(JaxstyleError):
    """Network weights are absent, corrupted or of a kind that is not understood."""


class StorageError(JaxstyleError):
    """The output folder cannot be written."""

    exit_code = 5


class DeviceError(JaxstyleError):
    """There is no device that works, or it stops answering, or has no room for a single image."""

    exit_code = 1
