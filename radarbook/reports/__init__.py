"""Reports: tables and statements made from measured errors, as Markdown."""

from radarbook.reports.comparison import (
    Results,
    recipes_compared,
    results_page,
    shipped_results,
    side_by_side,
)
from radarbook.reports.findings import from_results, named, verdict
from radarbook.reports.fits import (
    TARGETS,
    cause_rows,
    fit_rows,
    found_layer_rows,
    frame_rows,
    layer_rows,
    method_rows,
    mode_means,
    outside_rows,
    referee_rows,
)
from radarbook.reports.results import (
    MEAN_FACE,
    RANDOM_FACE,
    markdown_table,
    millimetre_table,
    paper_row,
    provenance_lines,
    read_kept,
    read_results,
    result_row,
    write_results,
)
from radarbook.reports.table import show, table

__all__ = [
    "MEAN_FACE",
    "RANDOM_FACE",
    "TARGETS",
    "Results",
    "cause_rows",
    "fit_rows",
    "found_layer_rows",
    "frame_rows",
    "from_results",
    "layer_rows",
    "markdown_table",
    "method_rows",
    "millimetre_table",
    "mode_means",
    "named",
    "outside_rows",
    "paper_row",
    "provenance_lines",
    "read_kept",
    "read_results",
    "recipes_compared",
    "referee_rows",
    "result_row",
    "results_page",
    "shipped_results",
    "show",
    "side_by_side",
    "table",
    "verdict",
    "write_results",
]
