"""JSON of a file that others may have written, with a bound on its depth."""

from __future__ import annotations

import json
from typing import Any

DEEPEST = 32
"""Levels of lists and objects. Code that walks the value may recurse that often wherever it is called."""


def loads(data: str | bytes) -> Any:
    """Reads JSON like `json.loads`.

    Raises:
        ValueError: it is no JSON, or deeper than `DEEPEST`.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level = [value]
    for _ in range(DEEPEST):
        level = [below for one in level for below in _below(one)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _below(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
