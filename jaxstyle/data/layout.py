"""Names that a run reserves in its output folder OUT. Imports only the standard library."""

from __future__ import annotations

import re

MANIFEST = "manifest.jsonl"
"""Manifest: the rows of the whole folder."""

SETTINGS = "settings.json"
"""Settings of the run; see `data.fingerprint`."""

SHEET = "contact_sheet.png"
"""Contact sheet that the command draws after a run."""

ANNOTATIONS = re.compile(r"annotations\.(json|csv|tsv|jsonl)")
"""Names of copies of annotations; see `annotations_name`."""

LEDGER = re.compile(r"manifest-[0-9]+-of-[0-9]+\.jsonl")
"""Names of the ledgers of shards; see `ledger_name`."""

LOCK = ".jaxstyle-lock"
"""Lock file of the mutex of `data.mutex`. The names of all other lock files and records begin with this one."""

LOCK_PART = re.compile(re.escape(LOCK) + r"-([0-9]{1,9})-of-([0-9]{1,9})(?:\.json)?")
"""Names of a part's lock file and of its record; see `lock_name`."""

PUBLISHER = ".jaxstyle-publisher"
"""File with the name by which `jaxstyle publish` knows the folder again in an object store."""

TEMPORARY = ".jaxstyle-partial-"
"""Prefix of the names of unfinished files."""

UNFINISHED = f"{TEMPORARY}files"
"""Folder of unfinished outputs in OUT. An output on another file system has its unfinished file in its own folder."""

STEPS = "jaxstyle-steps"
"""Folder of intermediate pictures in OUT: those of the output a/b.jpg are a/b.jpg/EVALUATIONS.png in it."""

LEFT_BEHIND = (LOCK, TEMPORARY)
"""Prefixes of names that a killed run may leave in a folder without settings."""


def step_key(key: str, evaluations: int) -> str:
    """Returns the key of the intermediate picture of an output after this many evaluations."""
    return f"{STEPS}/{key}/{evaluations:06}.png"


def is_step(name: str) -> bool:
    """Whether a file in the folder of an output's intermediate pictures is one of them."""
    return re.fullmatch(r"[0-9]{6,10}\.png", name) is not None


def is_ledger(name: str) -> bool:
    """Whether a file of this name in OUT holds rows."""
    return name == MANIFEST or LEDGER.fullmatch(name) is not None


def ledger_name(part: tuple[int, int]) -> str:
    """Returns the name of a run's ledger: the manifest for (1, 1), the whole folder, else that of shard i of n."""
    return MANIFEST if part == (1, 1) else f"manifest-{part[0]}-of-{part[1]}.jsonl"


def annotations_name(suffix: str) -> str:
    """Returns the name of the copy of annotations in OUT, for the extension of their file, such as ".csv"."""
    return f"annotations{suffix.lower()}"


def lock_name(part: tuple[int, int]) -> str:
    """Returns the name of the lock file of shard i of n; (1, 1) is the whole folder. Its record adds `.json`."""
    return f"{LOCK}-{part[0]}-of-{part[1]}"


def is_reserved(key: str) -> bool:
    """Whether an output of this key would replace a file of the run itself, or be deleted as unfinished.

    Args:
        key: a path below OUT, separated by `/`. Case is ignored, since a file system may ignore it.
    """
    parts = key.casefold().split("/")
    top = parts[0]
    own = top in (MANIFEST, SETTINGS, SHEET, STEPS, PUBLISHER) or top.startswith(LOCK)
    own = own or any(names.fullmatch(top) is not None for names in (LEDGER, ANNOTATIONS))
    return own or any(part.startswith(TEMPORARY) for part in parts)
