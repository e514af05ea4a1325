"""The corpus of `fuzz.py`: whole files are right; of damaged ones none is wrong where its format tells."""

from __future__ import annotations

import collections

import pytest
from fuzz import corpus, judge

UNTOLD = ("TIFF", "BMP", "PPM", "PFM", "GIF, 1 bit")
"""Formats without checksums and end marks whose pixels may be zeros."""


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], collections.Counter]:
    found = collections.defaultdict(collections.Counter)
    for case in corpus():
        found[case.damage, case.format][judge(case)] += 1
    return found


def test_the_corpus_is_large(verdicts):
    assert sum(counts.total() for counts in verdicts.values()) >= 2000


def test_every_whole_file_is_right(verdicts):
    others = {key: counts for key, counts in verdicts.items() if key[0] == "whole" and counts.keys() != {"right"}}
    assert not others


@pytest.mark.parametrize("damage", ["cut", "cut and closed"])
def test_of_files_cut_short_none_is_wrong(verdicts, damage):
    assert not {key: counts for key, counts in verdicts.items() if key[0] == damage and counts["wrong"]}


@pytest.mark.parametrize("damage", ["zero tail", "hole"])
def test_of_files_with_zeros_none_is_wrong_where_zeros_are_no_pixels(verdicts, damage):
    wrong = {format: counts for (kind, format), counts in verdicts.items() if kind == damage and counts["wrong"]}
    assert not {format for format in wrong if not format.startswith(UNTOLD)}
    of_bytes = [c for (kind, f), c in verdicts.items() if kind == damage and f.startswith(UNTOLD) and "1 bit" not in f]
    assert sum(counts["wrong"] for counts in of_bytes) <= 0.1 * sum(counts.total() for counts in of_bytes)


def test_no_bit_of_a_format_with_checksums_flips_unnoticed(verdicts):
    for (damage, format), counts in verdicts.items():
        if damage == "bit flip" and (format.startswith(("PNG", "APNG")) or format == "TIFF, deflate"):
            assert not counts["wrong"], format
