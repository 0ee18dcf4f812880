"""Decide which rows belong to which partition. Pure: numbers in, numbers out, no I/O.

Three ways, chosen by what is known beforehand; in each the partitions are disjoint and together complete:

* at least as many files as partitions: whole files, file ``i`` goes to partition ``i mod n``;
* fewer files, row counts known (Parquet): one contiguous range of the rows of all files in order;
* fewer files, row counts unknown (text): stripes of ``STRIPE_ROWS`` rows, dealt in turn. Counting first would read
  every byte twice; the price of stripes is that each partition parses all lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

STRIPE_ROWS = 16_384  # small enough to spread a modest file, large enough that a prediction per stripe is cheap


@dataclass(frozen=True, slots=True)
class Stripes:
    """Which stripes of one file are ours: those with ``(first + stripe) % partitions == partition``."""

    partition: int
    partitions: int
    first: int

    def select(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield ``(offset, length)`` of our pieces inside a batch that begins at row ``start`` of its file."""
        row = start
        while row < start + count:
            stripe = row // STRIPE_ROWS
            end = min((stripe + 1) * STRIPE_ROWS, start + count)
            if (self.first + stripe) % self.partitions == self.partition:
                yield row - start, end - row
            row = end


@dataclass(frozen=True, slots=True)
class FileShare:
    """Our part of one file: all of it, rows ``start`` to ``stop`` (exclusive), or stripes."""

    file: int
    start: int = 0
    stop: int | None = None
    stripes: Stripes | None = None


def share_files(files: int, partition: int, partitions: int) -> tuple[FileShare, ...]:
    """Deal whole files in turn."""
    return tuple(FileShare(index) for index in range(partition, files, partitions))


def share_rows(row_counts: Sequence[int], partition: int, partitions: int) -> tuple[FileShare, ...]:
    """Cut the rows of all files, in order, into contiguous ranges that differ by at most one row."""
    total = sum(row_counts)
    first, last = total * partition // partitions, total * (partition + 1) // partitions
    shares, offset = [], 0
    for index, rows in enumerate(row_counts):
        start, stop = max(first - offset, 0), min(last - offset, rows)
        if start < stop:
            shares.append(FileShare(index, start, stop))
        offset += rows
    return tuple(shares)


def share_stripes(files: int, partition: int, partitions: int) -> tuple[FileShare, ...]:
    """Deal stripes of every file in turn; each file begins with another partition, so that short files spread too."""
    return tuple(FileShare(index, stripes=Stripes(partition, partitions, index)) for index in range(files))
