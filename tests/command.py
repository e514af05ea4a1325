"""The command line for tests: run in this process, on a small folder, with the network's stub where it is no matter."""

import os
import sys

import pytest
from pictures import painting, photo, save

from jaxstyle import cli

FAST = ["--size", "32", "--evaluations", "2", "--batch", "1", "--workers", "0"]
BROKEN = b"\xff\xd8\xff\xe0 not a picture at all"


def run(*arguments):
    """Runs a command line in this process; returns the exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(os, "_exit", sys.exit)  # as it ends when a thread is left over
        cli.main([str(a) for a in arguments])
    return caught.value.code


def photographs(folder):
    """Makes two photographs and a style in a folder, and returns the folder."""
    save(folder / "in" / "a.jpg", photo(40, 30))
    save(folder / "in" / "deep" / "b.png", photo(30, 40, 1))
    save(folder / "style.png", painting())
    return folder


def rendering(folder, command="render"):
    """The command that renders them."""
    return [command, folder / "in", "--style", folder / "style.png", "-o", folder / "out", *FAST]
