"""Parquet and Arrow files: tables whose parts (row groups, record batches) are read a block at a time."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xoron_core.data.sources.index import Index
from xoron_core.data.sources.recent import Recent
from xoron_core.data.sources.rows import BadRowError, NotThisFormatError, RowFile, Tell

if TYPE_CHECKING:
    import pyarrow as pa

ARROW_MAGIC = b"ARROW1"
BATCH_ROWS = 4096
MAX_PART_BYTES = 2**32
"""No row group that is to be held in memory unpacks to more; a small file may."""
MIN_BLOCK_ROWS = 4096
MIN_BLOCK_BYTES = 2**26
"""A block ends once it holds so many of either."""

Block = list["pa.Table | BadRowError"]
"""The parts of a file that are in a block, or what is wrong with them."""

Blocks = Recent[tuple[Path, int], Block]
"""The blocks of a source's files that were read last."""


class TableRows(RowFile):
    """The rows of a file of tables."""

    def __init__(self, path: Path, index: Index, blocks: Blocks) -> None:
        self._path = path
        self._blocks = blocks
        self._block_begins = (*index.blocks, index.num_rows)
        self._part_begins = index.arrays["parts"]

    @abstractmethod
    def _read_part(self, part: int) -> "pa.Table":
        """One part of the file. Raises: BadRowError when it is too large; pyarrow.ArrowException; OSError."""

    def fields(self, index: int) -> Mapping[str, Any]:
        number = bisect_right(self._block_begins, index) - 1
        block = self._blocks.get((self._path, number), lambda: self._read_block(number))
        part = self._part_at(index)
        table = block[part - self._part_at(self._block_begins[number])]
        if isinstance(table, BadRowError):
            raise BadRowError(table.reason, table.kind)
        fields: Mapping[str, Any] = table.slice(index - int(self._part_begins[part]), 1).to_pylist()[0]
        return fields

    def _part_at(self, row: int) -> int:
        return int(np.searchsorted(self._part_begins, row, side="right")) - 1

    def _read_block(self, number: int) -> Block:
        begin, end = self._block_begins[number : number + 2]
        return [self._part_or_error(part) for part in range(self._part_at(begin), self._part_at(end - 1) + 1)]

    def _part_or_error(self, part: int) -> "pa.Table | BadRowError":
        try:
            with _as_format("part"):
                return self._read_part(part)
        except BadRowError as error:
            return error
        except NotThisFormatError as error:
            return BadRowError(f"part {part} of {self._path.name} cannot be read: {error}")


class ParquetRows(TableRows):
    """Rows out of row groups. Raises: OSError when the file cannot be opened."""

    def __init__(self, path: Path, index: Index, blocks: Blocks) -> None:
        import pyarrow.parquet as pq

        super().__init__(path, index, blocks)
        with _as_format("Parquet file"):
            self._file = pq.ParquetFile(path)

    def _read_part(self, part: int) -> "pa.Table":
        import pyarrow as pa

        batches, num_bytes = [], 0
        # other cores have other workers
        for batch in self._file.iter_batches(BATCH_ROWS, row_groups=[part], use_threads=False):
            batches.append(batch)
            num_bytes += batch.nbytes
            if num_bytes > MAX_PART_BYTES:
                reason = f"part {part} of {self._path.name} unpacks to more than {MAX_PART_BYTES} bytes"
                raise BadRowError(f"{reason}; write the file with smaller row groups", "too_large")
        return pa.Table.from_batches(batches, self._file.schema_arrow)

    def close(self) -> None:
        self._file.close()


class ArrowRows(TableRows):
    """Rows out of record batches, where they lie in the file, which is mapped into memory; those of a stream that is
    compressed are held unpacked. Raises: OSError when the file cannot be opened."""

    def __init__(self, path: Path, index: Index, blocks: Blocks) -> None:
        super().__init__(path, index, blocks)
        self._file = _ArrowFile(path)

    def _read_part(self, part: int) -> "pa.Table":
        import pyarrow as pa

        return pa.Table.from_batches([self._file.batch(part)])

    def close(self) -> None:
        self._file.close()


class _ArrowFile:
    """The record batches of a file, be it of the file format or of the stream format."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._mapped = pa.memory_map(str(path))
        with ExitStack() as opened, _as_format("Arrow file"):
            opened.enter_context(self._mapped)
            is_file = self._mapped.read(len(ARROW_MAGIC)) == ARROW_MAGIC
            self._mapped.seek(0)
            if is_file:
                file = pa.ipc.open_file(self._mapped)
                self.batch, self.num_batches = file.get_batch, file.num_record_batches
            else:
                batches = list(pa.ipc.open_stream(self._mapped))
                self.batch, self.num_batches = batches.__getitem__, len(batches)
            opened.pop_all()

    def close(self) -> None:
        self._mapped.close()


def scan_parquet(path: Path, tell: Tell) -> Index:
    """The row groups of a file. Raises: NotThisFormatError; OSError."""
    import pyarrow.parquet as pq

    with _as_format("Parquet file"), pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
        return _index_of((group.num_rows, group.total_byte_size) for group in groups)


def scan_arrow(path: Path, tell: Tell) -> Index:
    """The record batches of a file. Raises: NotThisFormatError; OSError."""
    with closing(_ArrowFile(path)) as file, _as_format("Arrow file"):
        batches = (file.batch(at) for at in range(file.num_batches))
        return _index_of((batch.num_rows, batch.nbytes) for batch in batches)


def _index_of(parts: Iterable[tuple[int, int]]) -> Index:
    """The index of a file whose parts have so many rows and bytes."""
    begins, blocks = [0], [0]
    block_rows = block_bytes = 0
    for num_rows, num_bytes in parts:
        if block_rows >= MIN_BLOCK_ROWS or block_bytes >= MIN_BLOCK_BYTES:
            blocks.append(begins[-1])
            block_rows = block_bytes = 0
        begins.append(begins[-1] + num_rows)
        block_rows += num_rows
        block_bytes += num_bytes
    return Index(begins[-1], tuple(blocks), {"parts": np.array(begins, dtype=np.int64)})


@contextmanager
def _as_format(what: str) -> Iterator[None]:
    """Arrow's many ways to say that something is damaged, as one."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowException as error:
        raise NotThisFormatError(f"is no {what}: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the system's; what Arrow finds damaged has no number
            raise
        raise NotThisFormatError(f"is no {what}: {error}") from error
