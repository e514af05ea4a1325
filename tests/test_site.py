"""The documentation's site: it builds without a warning, and a broken link ends the build."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="mkdocs-material is not installed")

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
import site_builder as site


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    site.build(folder)
    return folder


def test_every_markdown_file_is_a_page_and_pictures_are_there(built):
    for page in site.pages():
        name = page.relative_to(site.ROOT).with_suffix(".html").as_posix()
        assert (built / name.replace("README.html", "index.html")).is_file(), name
    assert (built / "docs" / "gallery" / "presets.jpg").is_file()
    assert (built / "docs" / "clusters" / "slurm.sh").is_file()


def test_the_pages_stand_in_the_readmes_order(built):
    names = site.navigation()
    assert names[:3] == ["README.md", "docs/guides.md", "docs/promises.md"]
    flat = [*names[:-1], *names[-1]["For developers"]]
    assert len(set(flat)) == len(flat) == len([*site.pages()])


def test_a_page_asks_no_other_machine_for_anything(built):
    import re

    text = (built / "docs" / "faults.html").read_text()
    loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)", text)
    assert not [one for one in loaded if "canonical" not in one]


@pytest.mark.parametrize("link", ["nothing.md", "faults.md#nothing"])
def test_a_link_to_nothing_ends_the_build(link, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# A\n\n## Where to read on\n\n- [b](docs/faults.md)\n")
    (tmp_path / "docs" / "faults.md").write_text(f"# B\n\n[c]({link})\n")
    with pytest.raises(SystemExit) as caught:
        site.build(tmp_path / "site")
    assert link.split("#")[0] in str(caught.value) and "nothing" in str(caught.value)


def test_without_mkdocs_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(site.sys, "executable", "/bin/false")
    monkeypatch.setattr(
        site.subprocess,
        "run",
        lambda *_, **__: type("R", (), dict(returncode=1, stderr="No module named mkdocs", stdout="")),
    )
    with pytest.raises(SystemExit, match="extra 'docs'"):
        site.build(tmp_path)
