"""Reports: tables and statements made from measured errors, as Markdown."""

from radarbook.reports.comparison import (
    Results,
    recipes_compared,
    results_page,
    shipped_results,
    side_by_side,
)
from radarbook.reports.findings import from_results, named, verdict
from radarbook.reports.results import (
    MEAN_FACE,
    RANDOM_FACE,
    markdown_table,
    millimetre_table,
    paper_row,
    provenance_lines,
    read_results,
    result_row,
    write_results,
)

__all__ = [
    "MEAN_FACE",
    "RANDOM_FACE",
    "Results",
    "from_results",
    "markdown_table",
    "millimetre_table",
    "named",
    "paper_row",
    "provenance_lines",
    "read_results",
    "recipes_compared",
    "result_row",
    "results_page",
    "shipped_results",
    "side_by_side",
    "verdict",
    "write_results",
]
