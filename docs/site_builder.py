"""Builds the documentation as a site: `python docs/site_builder.py -o site`, with mkdocs-material (the extra `docs`).

The pages are the Markdown files of the repository in their places, README.md first; links to a file that is not there
end the build. The site needs no network: fonts are the reader's own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDERS = ("docs", "bench", "tests", "weights")
"""Folders whose Markdown files are pages."""
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def pages() -> Iterator[Path]:
    """Yields the Markdown files, README.md first."""
    yield from sorted(ROOT.glob("*.md"), key=lambda path: path.name != "README.md")
    for folder in FOLDERS:
        yield from sorted((ROOT / folder).glob("*.md"))


def copy(to: Path) -> None:
    """Copies the pages, and the files that they link, to the same places in a folder."""
    for page in pages():
        linked = [(page.parent / name).resolve() for name in LINK.findall(page.read_text())]
        for path in [page, *(one for one in linked if one.is_file())]:
            target = to / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def navigation() -> list[str | dict[str, Any]]:
    """Lists the pages: README.md, then those that its last section names, in its order, then the rest."""
    readme = (ROOT / "README.md").read_text()
    named = [name for name in LINK.findall(readme.split("## Where to read on")[1]) if name.endswith(".md")]
    names = [*dict.fromkeys(["README.md", *named])]
    rest = [name for path in pages() if (name := path.relative_to(ROOT).as_posix()) not in names]
    return [*names, {"For developers": rest}]


def configuration(pages_in: Path, output: Path) -> dict[str, Any]:
    """The settings of mkdocs."""
    schemes = [
        {"media": f"(prefers-color-scheme: {name})", "scheme": scheme, "primary": "indigo"}
        for name, scheme in (("light", "default"), ("dark", "slate"))
    ]
    return {
        "site_name": "jaxstyle",
        "docs_dir": str(pages_in),
        "site_dir": str(output),
        "use_directory_urls": False,
        "theme": {"name": "material", "font": False, "palette": schemes, "features": ["navigation.top"]},
        "plugins": ["search"],
        "nav": navigation(),
        "markdown_extensions": ["tables", "pymdownx.superfences", {"toc": {"permalink": True}}],
        "validation": {"links": {"anchors": "warn", "not_found": "warn", "unrecognized_links": "warn"}},
    }


def build(output: Path) -> None:
    """Builds the site; every warning is an error.

    Raises:
        SystemExit: mkdocs is absent or refuses a page.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy(place / "pages")
        settings = place / "mkdocs.yml"  # JSON is YAML
        settings.write_text(json.dumps(configuration(place / "pages", output.resolve())))
        line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(settings)]
        done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        absent = "No module named mkdocs" in done.stderr
        raise SystemExit("Install jaxstyle's extra 'docs'." if absent else done.stdout + done.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="docs/site_builder.py", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("site"), help="folder for the site (site)")
    build(parser.parse_args().output)


if __name__ == "__main__":
    main()
