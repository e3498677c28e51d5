"""The figures of the pages are those that the benchmarks wrote."""

from pathlib import Path

import pytest

from benchmarks.reliability.fault_tables import equality_table, faults_table, kills_table, orphans_table, throughput_table

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "table"),
    [
        ("faulty_envs.md", equality_table),
        ("faulty_envs.md", kills_table),
        ("faulty_envs.md", orphans_table),
        ("faulty_envs.md", faults_table),
        ("ray.md", throughput_table),
    ],
)
def test_tables_are_those_of_the_results(page, table):
    assert table().count("\n") > 2
    assert table() in (DOCS / page).read_text(encoding="utf-8")
