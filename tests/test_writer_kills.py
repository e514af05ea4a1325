"""A short sample of `writer_kills.py`: writers are killed, and a later one ends as if nothing had happened."""

import subprocess
import sys

import writer_kills

WRITERS = ("tar", "parquet", "hdf5", "manifest", "store")
"""Without `folder`, which test_kill and test_killpoints have, and without `s3`, whose server starts slowly."""


def test_killed_writers_leave_whole_files_and_the_next_ones_finish(tmp_path):
    line = [sys.executable, writer_kills.__file__, "--kills", "4", "--writer", *WRITERS]
    done = subprocess.run(line, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert tuple(told.split()[0] for told in done.stdout.splitlines()) == WRITERS
