"""Changes lines that matter, one at a time in a copy of the repository, and asks the tests whether they notice.

    python tests/mutants.py                  all mutants of tests/mutations.py
    python tests/mutants.py armijo last-row  these ones
    python tests/mutants.py --write [...]    and their rows of the table in tests/README.md

Run it in a git checkout. It exits with 1 if a mutant survives that no reason excuses, and with 2 if the tests fail
without any mutant or a mutant cannot be applied.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mutations import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
README = ROOT / "tests" / "README.md"
BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"
LIMIT = 900
"""Seconds a test file after which a run of tests is ended. Tests that hang have noticed a mutant."""
HEAD = "| mutant | file | what is changed | outcome | tested |\n|---|---|---|---|---|\n"


class Outcome(NamedTuple):
    """What a run of tests came to.

    Attributes:
        word: "survived" (all tests pass), "killed", or "error" (the tests could not be run).
        by: the first test that failed; the reason where a run was ended or could not begin.
    """

    word: str
    by: str
    seconds: float


def mutated(mutant: Mutant, text: str) -> str:
    """The text of the mutant's file with the change.

    Raises:
        ValueError: the text to be replaced is not there exactly once.
    """
    found = text.count(mutant.before)
    if found != 1:
        raise ValueError(f"{mutant.name}: the text to be replaced is {found} times in {mutant.file}, not once")
    return text.replace(mutant.before, mutant.after)


def copied(folder: Path) -> Path:
    """A copy of the repository's files, those included that are not committed yet."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in map(os.fsdecode, filter(None, names)):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


class Copy:
    """A copy of the repository in which tests run. Every Python process that they start imports from it."""

    def __init__(self, folder: Path):
        self.root, self._temporary = copied(folder / "copy"), folder / "tmp"
        # A mutant of equal length in the same second as the original would be taken for it: no bytecode is written.
        path = os.pathsep.join(filter(None, (str(self.root), os.environ.get("PYTHONPATH"))))
        paths = {"PYTHONPATH": path, "TMPDIR": str(self._temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAXSTYLE_", "PYTEST_"))} | paths
        self._temporary.mkdir()
        show = "import jaxstyle; print(jaxstyle.__file__)"
        command, elsewhere = [sys.executable, "-P", "-c", show], self._temporary
        found = subprocess.run(command, cwd=elsewhere, env=self._environment, capture_output=True, text=True)
        if found.stdout.strip() != str(self.root / "jaxstyle" / "__init__.py"):
            raise SystemExit(f"jaxstyle is not imported from the copy: {found.stdout or found.stderr}")

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """The copy with the mutant in it."""
        path = self.root / mutant.file
        original = path.read_text()
        path.write_text(mutated(mutant, original))
        try:
            yield
        finally:
            path.write_text(original)

    def test(self, names: tuple[str, ...]) -> Outcome:
        """Runs test files, or single tests, until one fails."""
        command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", "-rfE"]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, *(f"tests/{name}" for name in names)], cwd=self.root, env=self._environment, text=True,
            errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            told, _ = process.communicate(timeout=LIMIT * len(names))
        except subprocess.TimeoutExpired:
            return Outcome("killed", f"no end after {LIMIT * len(names)} s", time.monotonic() - began)
        finally:
            _end(process)
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(exist_ok=True)
        seconds = time.monotonic() - began
        if process.returncode == 0:
            return Outcome("survived", "", seconds)
        failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+?\.py)(?:::(\w+))?", told, re.MULTILINE)
        if process.returncode != 1 or failed is None:
            return Outcome("error", "\n".join(told.splitlines()[-15:]), seconds)
        return Outcome("killed", failed[2] or failed[1], seconds)


def _end(process: subprocess.Popen) -> None:
    """Ends the tests and whatever they have started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def row(mutant: Mutant, outcome: Outcome, day: str) -> str:
    """The mutant's line of the table."""
    if outcome.word == "survived":
        told = f"equivalent: {mutant.equivalent}" if mutant.equivalent else "SURVIVED"
    else:
        told = f"{outcome.word} by {outcome.by}" if outcome.word == "killed" else "ERROR"
    cells = (f"`{mutant.name}`", mutant.file.removeprefix("jaxstyle/"), mutant.what, told, day)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rows_of(text: str) -> dict[str, str]:
    """The lines of the table in a README, by mutant."""
    table = text.partition(BEGIN)[2].partition(END)[0]
    return {match[1]: match[0] for match in re.finditer(r"^\| `([\w-]+)` \|.*$", table, re.MULTILINE)}


def write(made: dict[str, str]) -> None:
    """Puts lines into the table in tests/README.md; lines of mutants that are no more are left out."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    lines = rows_of(text) | made
    table = HEAD + "".join(f"{lines[one.name]}\n" for one in MUTANTS if one.name in lines)
    about = f"Last run with Python {sys.version.split()[0]}, jax {version('jax')}, jaxopt {version('jaxopt')}."
    README.write_text(f"{before}{BEGIN}\n{about}\n\n{table}{END}{rest.split(END)[1]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutants [default: all]", metavar="NAME")
    parser.add_argument("--write", action="store_true", help="update the table in tests/README.md")
    asked = parser.parse_args()
    unknown = set(asked.names) - {one.name for one in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [one for one in MUTANTS if one.name in asked.names or not asked.names]
    made, bad = {}, 0
    with tempfile.TemporaryDirectory(prefix="jaxstyle-mutants-", ignore_cleanup_errors=True) as folder:
        copy = Copy(Path(folder))
        whole = copy.test(tuple(sorted({name for one in chosen for name in one.tests})))
        print(f"{'(none)':28}{whole.word:10}{whole.seconds:6.0f} s", flush=True)
        if whole.word != "survived":
            print(f"the tests fail without a mutant: {whole.by}")
            return 2
        for one in chosen:
            with copy.changed(one):
                outcome = copy.test(one.tests)
            print(f"{one.name:28}{outcome.word:10}{outcome.seconds:6.0f} s  {outcome.by}", flush=True)
            made[one.name] = row(one, outcome, datetime.now(UTC).date().isoformat())
            bad = max(bad, 2 if outcome.word == "error" else outcome.word == "survived" and not one.equivalent)
            if asked.write:
                write(made)
    return bad


if __name__ == "__main__":
    sys.exit(main())
