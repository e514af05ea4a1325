"""Mutants do not rot: each still has its one place, makes a file that parses, and has its row in tests/README.md."""

import ast
from collections import Counter

import pytest
from mutants import README, ROOT, mutated, rows_of
from mutations import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_changes_one_place_of_its_file_and_its_tests_exist(mutant):
    text = (ROOT / mutant.file).read_text()
    changed = mutated(mutant, text)
    if mutant.file.endswith(".py"):
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert not name or f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), test
        assert (ROOT / "tests" / file).is_file()


def test_mutants_have_names_of_their_own():
    assert max(Counter(one.name for one in MUTANTS).values()) == 1


def test_text_that_is_not_there_exactly_once_is_an_error():
    mutant = MUTANTS[0]
    for text in ("", 2 * mutant.before):
        with pytest.raises(ValueError, match=f"{mutant.name}: the text to be replaced is"):
            mutated(mutant, text)


def test_the_table_has_every_mutant_and_no_survivor_without_a_reason():
    rows = rows_of(README.read_text())
    assert list(rows) == [one.name for one in MUTANTS]
    for one in MUTANTS:
        outcome = rows[one.name].split(" | ")[3]
        assert outcome.startswith(f"equivalent: {one.equivalent}" if one.equivalent else "killed by"), outcome
