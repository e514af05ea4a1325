"""Writes one Parquet file of outputs, whole under its final name, and checks one against what it should hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from jaxstyle.data import shallow
from jaxstyle.data.packing.base import Entry, rename, temporary
from jaxstyle.data.parquet import Opened, errors, leaves, modules, open_file, told, walk
from jaxstyle.data.problems import storage_error
from jaxstyle.data.sources.base import printable
from jaxstyle.data.thrift import Damaged
from jaxstyle.errors import InputError

FORMAT = "jaxstyle parquet 1"
"""Kind and version of the layout, `format` in what the file says of itself."""
ABOUT = b"jaxstyle"
"""Key of what the file says of itself, in its metadata."""
STYLE = "jaxstyle_style"
"""Column of the styles, where images have different ones."""
GROUP = 2**25
"""Bytes of a row group, about."""
BLOCK, MOST_BLOCK_ROWS = 2**24, 1024
"""Bytes of the source's columns that are read at a time, about, and the most rows."""
PAGE = 2**20
"""Bytes of a page, about."""


class Contents(NamedTuple):
    """What a file will hold.

    Attributes:
        column: name of the images.
        carried: the source's other columns that go with them.
        styled: whether there is a column of styles.
        entries: row of the source, and output, in their order.
        about: what the file says of itself.
    """

    column: str
    carried: Sequence[str]
    styled: bool
    entries: Sequence[tuple[int, Entry]]
    about: dict[str, Any]

    @property
    def digest(self) -> str:
        """Checksum of everything that decides the file."""
        entries = [[row, *entry[1:4]] for row, entry in self.entries]
        decides = [FORMAT, self.column, self.carried, self.styled, entries, self.about]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def schema(self, source: Opened) -> Any:
        """The file's `pyarrow.Schema`: the source's, with its metadata."""
        arrow, _ = modules()
        found = source.parquet.schema_arrow
        fields = [field for field in found if field.name in (self.column, *self.carried)]
        fields += [arrow.field(STYLE, arrow.string())] if self.styled else []
        text = json.dumps({"format": FORMAT, "digest": self.digest} | self.about).encode("ascii")
        return arrow.schema(fields, (found.metadata or {}) | {ABOUT: text})


def write(path: Path, contents: Contents, source: Opened, read: Callable[[Entry], bytes]) -> None:
    """Writes a file under a temporary name, reads it again, puts it on the disk and renames it.

    Args:
        source: of the carried columns.
        read: returns the file of an output.

    Raises:
        StorageError: the file cannot be written; an output is not as its row says.
        InputError: the source cannot be read.
    """
    schema = contents.schema(source)
    try:
        with temporary(path) as (file, name):
            _fill(file, contents, schema, source, read)
            file.flush()
            os.fsync(file.fileno())
            if problem := differs(Path(name), contents, source):
                raise OSError(f"read again, {problem}")
            now = os.stat(source.path)
            if (now.st_size, now.st_mtime_ns) != (source.found.st_size, source.found.st_mtime_ns):
                raise InputError(f"{printable(source.path)} changed while it was read", "Pack it again.")
            rename(name, path)
    except OSError as error:
        raise storage_error(path, "written", error) from error


def _fill(file: Any, contents: Contents, schema: Any, source: Opened, read: Callable[[Entry], bytes]) -> None:
    """Writes row groups of about `GROUP` bytes."""
    arrow, parquet = modules()
    flat = [field.name for field in schema if field.name in contents.carried and not arrow.types.is_nested(field.type)]
    flat += [STYLE] if contents.styled else []
    waiting, at, held, pieces = contents.entries, 0, 0, list[Any]()
    with parquet.ParquetWriter(
        file,
        schema,
        use_dictionary=flat,
        write_statistics=flat,
        data_page_size=PAGE,
        write_batch_size=1,
        write_page_checksum=True,
    ) as writer:

        def end_group() -> None:
            table = arrow.concat_tables(pieces).combine_chunks()
            writer.write_table(table, row_group_size=len(table))
            pieces.clear()

        for first, number, columns in _blocks(source, contents.carried):
            each = sum(one.nbytes for one in columns.values()) // number
            rows, images = list[int](), list[tuple[Entry, bytes]]()
            while at < len(waiting) and waiting[at][0] < first + number:
                row, entry = waiting[at]
                at += 1
                rows.append(row - first)
                images.append((entry, read(entry)))
                held += len(images[-1][1]) + each
                if held >= GROUP:
                    pieces.append(_table(schema, contents, columns, rows, images))
                    end_group()
                    held, rows, images = 0, [], []
            if rows:
                pieces.append(_table(schema, contents, columns, rows, images))
        if pieces:
            end_group()


def _blocks(source: Opened, carried: Sequence[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yields the first row, the number of rows and the carried columns of the source, some rows at a time.

    Raises:
        InputError: they cannot be read.
    """
    starts = source.footer.starts
    for group in range(len(starts) - 1):
        at, end = starts[group], starts[group + 1]
        if not carried:
            yield at, end - at, {}
            continue
        try:
            batches = source.parquet.iter_batches(
                _at_a_time(source, group, carried), row_groups=[group], columns=[*carried], use_threads=False
            )
            for batch in batches:
                names = batch.schema.names
                yield at, len(batch), {name: batch.column(names.index(name)) for name in carried}
                at += len(batch)
            if at != end:
                raise Damaged("its row group ends early")
        except errors() as error:
            raise InputError(f"the columns of {printable(source.path)} cannot be read ({told(error)})",
                             "Copy the file again, or leave them out with --leave-out.") from error  # fmt: skip


def _at_a_time(source: Opened, group: int, carried: Sequence[str]) -> int:
    """Rows of a row group that are about `BLOCK` bytes, even if each has the largest value of its dictionary."""
    rows, each = source.footer.starts[group + 1] - source.footer.starts[group], 1
    for leaf in (leaf for name in carried for leaf in leaves(source, name)):
        size, values = source.footer.size(group, leaf)
        dictionary = max([page.size for page in walk(source, group, leaf) if page.is_dictionary], default=0)
        each += (size + 8 * values) // max(1, rows) + dictionary
    return max(1, min(MOST_BLOCK_ROWS, BLOCK // each))


def _table(schema: Any, contents: Contents, columns: dict[str, Any], rows: Sequence[int],
           images: Sequence[tuple[Entry, bytes]]) -> Any:  # fmt: skip
    """Rows of a file: those of the source's columns with the outputs, and their styles."""
    arrow, _ = modules()
    taken = arrow.array(rows, arrow.int64())
    made = []
    for field in schema:
        if field.name == contents.column:
            made.append(_images(field.type, images))
        elif field.name in columns:
            made.append(columns[field.name].take(taken))
        else:
            made.append(arrow.array([_text(entry.style) for entry, _ in images], field.type))
    return arrow.Table.from_arrays(made, schema=schema)


def _images(kind: Any, images: Sequence[tuple[Entry, bytes]]) -> Any:
    arrow, _ = modules()
    if not arrow.types.is_struct(kind):
        return arrow.array([data for _, data in images], kind)
    parts = [kind.field(n) for n in range(kind.num_fields)]
    names = [_text(PurePosixPath(entry.key).name) for entry, _ in images]
    values = {"bytes": [data for _, data in images], "path": names}
    arrays = [
        arrow.nulls(len(images)) if one.type == arrow.null() else arrow.array(values[one.name], one.type)
        for one in parts
    ]
    return arrow.StructArray.from_arrays(arrays, fields=parts)


def _text(name: str) -> str:
    """A name without bytes that are no UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def about(path: Path) -> dict[str, Any] | None:
    """What a file says of itself that `write` has written; None if the path is another file."""
    unreadable: tuple[type[BaseException], ...] = (InputError, *errors())
    try:
        opened = open_file(path)
        opened.file.close()
        said = shallow.loads((opened.parquet.schema_arrow.metadata or {}).get(ABOUT, b"null"))
    except unreadable:
        return None
    return said if isinstance(said, dict) and said.get("format") == FORMAT else None


def differs(path: Path, contents: Contents, source: Opened) -> str:
    """Reads all of a file, with the checksums of its pages; returns how it differs from what it should hold, or ""."""
    try:
        opened = open_file(path)
    except InputError as error:
        return str(error)
    try:
        if not opened.parquet.schema_arrow.equals(contents.schema(source), check_metadata=True):
            return "it has other columns or metadata"
        if opened.rows != len(contents.entries):
            return f"it has {opened.rows} rows of {len(contents.entries)}"
        at = 0
        for batch in opened.parquet.iter_batches(16, use_threads=False):
            for value in batch.column(batch.schema.get_field_index(contents.column)):
                data = value["bytes"].as_py() if hasattr(value, "keys") else value.as_py()
                if hashlib.sha256(data or b"").hexdigest() != contents.entries[at][1].sha256:
                    return f"its row {at} has another image"
                at += 1
        return ""
    except errors() as error:
        return f"it is damaged ({told(error)})"
    finally:
        opened.file.close()
