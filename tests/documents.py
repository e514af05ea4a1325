"""The documentation as the tests read it: files, blocks of code, commands, tables that a program writes."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import format_tables  # noqa: E402, F401
import gallery  # noqa: E402, F401
import generate  # noqa: E402, F401

PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PATHS}


def blocks(language, *, where=TEXTS):
    """The blocks of a language in some files, as (file, code)."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(name, code) for name in where for code in pattern.findall(TEXTS[name])]


def commands():
    """Every shell command of the documentation, as (file, command)."""
    for name, block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from ((name, part.strip()) for part in re.split(r"&&", line.split("#")[0]) if part.strip())


def example(name):
    """The Python code after a marker of CONTRIBUTING.md."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", TEXTS["CONTRIBUTING.md"], re.DOTALL)
    assert found, name
    return found[1]


def anchors(text):
    """The anchors of a file's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
