"""The names that a run reserves in its output folder OUT, each once. Imports nothing but the standard library."""

from __future__ import annotations

import re

MANIFEST = "manifest.jsonl"
"""The rows of the whole folder."""

SETTINGS = "settings.json"
"""What the run was; see `data.fingerprint`."""

SHEET = "contact_sheet.png"
"""The contact sheet that the command draws after a run."""

LEDGER = re.compile(r"manifest-[0-9]+-of-[0-9]+\.jsonl")
"""Names of the ledgers of shards; see `ledger_name`."""

LOCK = ".jaxstyle-lock"
"""The mutex of `data.lock`. The names of all other lock files and records begin with it."""

LOCK_PART = re.compile(re.escape(LOCK) + r"-([0-9]{1,9})-of-([0-9]{1,9})(?:\.json)?")
"""Names of a part's lock file and of its record; see `lock_name`."""

TEMPORARY = ".jaxstyle-partial-"
"""How the names of unfinished files begin."""

UNFINISHED = f"{TEMPORARY}files"
"""The folder of unfinished outputs in OUT; on another file system than the output they lie beside it."""

LEFT_BEHIND = (LOCK, TEMPORARY)
"""How the names begin that a killed run may leave in a folder that has no settings yet."""


def ledger_name(part: tuple[int, int]) -> str:
    """The name of a run's ledger: the manifest for (1, 1), the whole folder; else that of shard i of n."""
    return MANIFEST if part == (1, 1) else f"manifest-{part[0]}-of-{part[1]}.jsonl"


def lock_name(part: tuple[int, int]) -> str:
    """The name of the lock file of shard i of n; (1, 1) is the whole folder. Its record's name has `.json` added."""
    return f"{LOCK}-{part[0]}-of-{part[1]}"


def is_reserved(key: str) -> bool:
    """Whether an output of this key would take the place of a file of the run itself, or be swept as unfinished.

    Args:
        key: a path below OUT, separated by `/`. Case is ignored, since a file system may ignore it.
    """
    parts = key.casefold().split("/")
    top = parts[0]
    own = top in (MANIFEST, SETTINGS, SHEET) or top.startswith(LOCK) or LEDGER.fullmatch(top) is not None
    return own or any(part.startswith(TEMPORARY) for part in parts)
