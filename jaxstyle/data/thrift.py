"""Reads values in Thrift's compact protocol, of which headers of Parquet consist; allocates nothing that they claim."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

STRUCT, LIST, BINARY = 12, 9, 8
"""Kinds of values."""
INTEGERS = (4, 5, 6)
"""Kinds of 16, 32 and 64 bits."""
DEEPEST = 16
"""Levels of structs and lists."""
_SET, _DOUBLE, _BYTE, _BOOLEANS = 10, 7, 3, (1, 2)


class Damaged(Exception):
    """What was read is not valid; the text says why."""


class Reader:
    """Reads values one after the other.

    Attributes:
        at: bytes that were read.
    """

    def __init__(self, data: bytes):
        self._data, self.at = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yields number and kind of each field of a struct; the caller reads or skips its value before the next.

        Raises:
            Damaged: the numbers do not ascend, or it ends early.
        """
        number = 0
        while (head := self._byte()) != 0:
            before, step = number, head >> 4
            number = number + step if step else self.integer()
            if number <= before:
                raise Damaged("its fields are not in their order")
            yield number, head & 15

    def integer(self) -> int:
        """Reads a signed integer, whose lowest bit is its sign."""
        number = self._number()
        return number >> 1 ^ -(number & 1)

    def list(self, kind: int) -> range:
        """Reads the head of a list; returns a range over its values, which the caller reads.

        Raises:
            Damaged: its values are of another kind, or there are more than bytes.
        """
        number, found = self._list()
        if number and found != kind:
            raise Damaged("a list has values of another kind")
        return range(number)

    def binary(self) -> bytes:
        """Reads a text or other bytes."""
        length = self._number()
        self._forward(length)
        return self._data[self.at - length : self.at]

    def skip(self, kind: int, depth: int = 0) -> None:
        """Passes over a value."""
        if depth > DEEPEST:
            raise Damaged("it is nested too deeply")
        if kind in INTEGERS:
            self._number()
        elif kind == BINARY:
            self._forward(self._number())
        elif kind == STRUCT:
            for _, inner in self.fields():
                if inner not in _BOOLEANS:  # whose values are in their kinds
                    self.skip(inner, depth + 1)
        elif kind in (LIST, _SET):
            number, inner = self._list()
            for _ in range(number):
                self.skip(inner, depth + 1)
        elif kind in (_BYTE, _DOUBLE, *_BOOLEANS):
            self._forward(8 if kind == _DOUBLE else 1)
        else:
            raise Damaged("it has a value of an unknown kind")

    def _list(self) -> tuple[int, int]:
        """The number and the kind of a list's values."""
        head = self._byte()
        number = self._number() if head >> 4 == 15 else head >> 4
        if number > len(self._data) - self.at:
            raise Damaged("a list claims more values than there are bytes")
        return number, head & 15

    def _byte(self) -> int:
        self._forward(1)
        return self._data[self.at - 1]

    def _forward(self, number: int) -> None:
        self.at += number
        if self.at > len(self._data):
            raise Damaged("it ends early")

    def _number(self) -> int:
        """Reads an unsigned integer: seven bits a byte, the lowest first."""
        number = 0
        for shift in itertools.count(0, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            if shift > 56:
                raise Damaged("it has an integer of more than 64 bits")
        raise AssertionError
