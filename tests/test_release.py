"""What is released is whole, and its version stands everywhere."""

from pathlib import Path

import pytest
import yaml

import jaxstyle

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_in_every_place():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == jaxstyle.__version__ and citation["title"] == "jaxstyle"
    titles = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert titles[0] == "## Unreleased" and titles[1].startswith(f"## {jaxstyle.__version__}")


def test_a_wheel_has_every_file_of_the_package(tmp_path):
    """As hatchling lists them; nothing is built."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    listed = {
        Path(one.distribution_path).as_posix() for one in builders.WheelBuilder(str(ROOT)).recurse_included_files()
    }
    files = [path for path in (ROOT / "jaxstyle").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 200 and {path.relative_to(ROOT).as_posix() for path in files} <= listed
    assert "jaxstyle/report/page/index.html" in listed and not any("tests/" in one for one in listed)
