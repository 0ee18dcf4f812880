"""Partitions are disjoint and together complete, whichever way the rows are dealt."""

from __future__ import annotations

import pytest
from mlops_runtime.partitions import STRIPE_ROWS, FileShare, Stripes, share_files, share_rows, share_stripes


@pytest.mark.parametrize(("files", "partitions"), [(1, 1), (5, 2), (4, 4), (9, 4)])
def test_every_file_belongs_to_one_partition(files: int, partitions: int) -> None:
    dealt = [share.file for part in range(partitions) for share in share_files(files, part, partitions)]
    assert sorted(dealt) == list(range(files))


@pytest.mark.parametrize("row_counts", [[10], [3, 0, 4], [1, 1], [0], [], [7, 7, 7]])
@pytest.mark.parametrize("partitions", [1, 2, 3, 8])
def test_row_ranges_follow_each_other_without_gap(row_counts: list[int], partitions: int) -> None:
    rows = [
        (share.file, row)
        for part in range(partitions)
        for share in share_rows(row_counts, part, partitions)
        for row in range(share.start, share.stop or 0)
    ]
    assert rows == [(file, row) for file, count in enumerate(row_counts) for row in range(count)]


def test_row_ranges_are_even() -> None:
    sizes = [sum((share.stop or 0) - share.start for share in share_rows([50, 51], part, 4)) for part in range(4)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("batch_rows", [1000, STRIPE_ROWS, 100_000])
@pytest.mark.parametrize("partitions", [2, 3])
def test_stripes_do_not_depend_on_batches(batch_rows: int, partitions: int) -> None:
    total = 3 * STRIPE_ROWS + 17
    seen: list[int] = []
    for part in range(partitions):
        stripes = Stripes(part, partitions, first=1)
        for start in range(0, total, batch_rows):
            for offset, length in stripes.select(start, min(batch_rows, total - start)):
                seen.extend(range(start + offset, start + offset + length))
    assert sorted(seen) == list(range(total))


def test_stripes_of_short_files_are_spread() -> None:
    shares = share_stripes(2, 1, 4)
    assert [(list(share.stripes.select(0, 10)) if share.stripes else []) for share in shares] == [[], [(0, 10)]]
    assert shares[0] == FileShare(0, stripes=Stripes(1, 4, 0))
