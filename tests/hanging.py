"""Runs the command line over the stub with one call that never returns, as on a file system that has frozen.

HANG=name    which call, see `PLACES`
HANG_AT=n    the n-th of them hangs (1 unless set)
MARK=path    a file that is made when it hangs
GRACE=s      seconds that the run has to end by itself
"""

import contextlib
import os
from pathlib import Path

import stub

from jaxstyle import cli
from jaxstyle.data import lock, manifest
from jaxstyle.data.sinks import folders
from jaxstyle.data.sources.folders import FolderSource
from jaxstyle.engine import pipeline, stop, watchdog
from jaxstyle.planning import preflight
from jaxstyle.report import sheet

PLACES = {
    "check": (FolderSource, "check"),
    "look": (preflight, "check_output"),
    "writable": (preflight, "check_writable"),
    "settings": (preflight.fingerprint, "compare"),
    "make": (pipeline, "make_output_folder"),
    "lock": (lock, "locked"),
    "read": (manifest, "ledgers"),
    "sweep": (folders.FolderSink, "sweep"),
    "list": (FolderSource, "inputs"),
    "stamp": (FolderSource, "stamp"),
    "write": (folders.FolderSink, "write"),
    "commit": (folders.FolderSink, "commit"),
    "rows": (manifest.Manifest, "append"),
    "sheet": (sheet, "contact_sheet"),
    "close": (manifest.Manifest, "close"),
    "unite": (lock, "if_unlocked"),
}
"""(owner, name) of each call."""


def hang():
    """Blocks in the system, which handles no signal of Python meanwhile."""
    Path(os.environ["MARK"]).touch()
    read, _ = os.pipe()
    with contextlib.suppress(KeyboardInterrupt):
        os.read(read, 1)


def main():
    owner, name = PLACES[os.environ["HANG"]]
    called, left = getattr(owner, name), [int(os.environ.get("HANG_AT", 1))]

    def calling(*arguments, **more):
        left[0] -= 1
        if left[0] == 0:
            hang()
        return called(*arguments, **more)

    setattr(owner, name, calling)
    watchdog.GRACE_SECONDS = stop.GRACE_SECONDS = float(os.environ.get("GRACE", 0.5))
    pipeline.MUTEX_SECONDS = 1
    stub.install()
    cli.main()


if __name__ == "__main__":
    main()
