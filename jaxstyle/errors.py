"""Errors that a caller can correct. Each says what is wrong, with the value, and the remedy."""

from __future__ import annotations


class JaxstyleError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: what is wrong, with the offending value.
        remedy: what the caller can do about it; empty only if there is no remedy.
    """

    exit_code = 2

    def __init__(self, what: str, remedy: str = ""):
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}. {remedy}" if remedy else what)


class SettingsError(JaxstyleError):
    """A setting has an invalid value, or two settings contradict each other."""


class SettingsMismatch(JaxstyleError):
    """The output folder belongs to a run with other settings."""


class OutputLocked(JaxstyleError):
    """Another run is writing to the output folder."""


class InputError(JaxstyleError):
    """An input or the style image cannot be used."""


class ImageError(JaxstyleError):
    """One picture cannot be read. A run records it as a row of the manifest and goes on."""


class WeightsError(JaxstyleError):
    """Network weights are absent, damaged or of an unknown format."""


class StorageError(JaxstyleError):
    """The output folder cannot be written."""

    exit_code = 5


class ProcessError(JaxstyleError):
    """The system starts no further process or thread for the run."""

    exit_code = 1


class DeviceError(JaxstyleError):
    """JAX finds no usable device, the device stops answering, or it has no memory for the network."""

    exit_code = 1
