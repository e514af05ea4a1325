"""The index of a source that lists its inputs first: kept in a file, read in blocks, closed when the listing fails."""

import io
from unittest.mock import Mock

import pytest

from jaxstyle.data.sources import index
from jaxstyle.data.sources.index import Indexed, in_a_temporary_file
from jaxstyle.errors import InputError, StorageError


class Letters(Indexed):
    """Lists some letters; counts its listings."""

    def __init__(self, letters):
        super().__init__("the index of the letters")
        self.letters, self.listings = letters, 0

    def prepare(self):
        self.listings += 1
        with self._new_index() as made:
            for letter in self.letters:
                self._add(made, [letter])
                yield
            if not self.letters:
                raise InputError("there is no letter", "Give one.")
        self._index = made


def test_lines_come_back_in_their_order_and_are_listed_once_until_the_source_is_closed():
    source = Letters("abc\udce9")
    assert [*source._lines()] == [*source._lines()] == [["a"], ["b"], ["c"], ["\udce9"]] and source.listings == 1
    source.close()
    assert next(source._lines()) == ["a"] and source.listings == 2


def test_lines_are_read_in_blocks(monkeypatch):
    source = Letters("abcdefgh")
    monkeypatch.setattr(index, "AT_A_TIME", 12)
    read = Mock(wraps=source._listed().readlines)
    source._index = Mock(wraps=source._index, readlines=read)
    assert [line for (line,) in source._lines()] == [*"abcdefgh"]
    assert [call.args for call in read.mock_calls] == [(12,)] * 5  # two lines of six bytes each, and the end


def test_the_index_of_a_listing_that_fails_is_closed(monkeypatch):
    made = []
    monkeypatch.setattr(index.tempfile, "SpooledTemporaryFile", lambda *_: made.append(io.BytesIO()) or made[-1])
    with pytest.raises(InputError):
        [*Letters("").prepare()]
    assert made[0].closed


def test_an_error_of_the_file_says_what_is_kept_in_it():
    message = "the list of inputs cannot be kept in a temporary file .No space left.*TMPDIR"
    with pytest.raises(StorageError, match=message), in_a_temporary_file("the list of inputs"):
        raise OSError(28, "No space left on device")
