"""A table's files: what its kind tabulates, as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from overtrain.figures.kinds import TABLES
from overtrain.records.provenance import whole_file


def write(settings: dict, csv: Path, data: pd.DataFrame | None = None) -> None:
    """Write the table that `settings` asks for to `csv` and, beside it, .md and .tex.

    data: the measurements of a table that has some.
    """
    table = TABLES[settings["content"]].tabulate(data, settings).astype(str)
    scale = f" ({settings['scale']})" if settings["scale"] else ""
    caption = settings["caption"] + scale
    with whole_file(csv) as temporary:
        table.to_csv(temporary)
    with whole_file(csv.with_suffix(".md")) as temporary:
        temporary.write_text(f"{table.to_markdown(disable_numparse=True)}\n\n{caption}\n")
    with whole_file(csv.with_suffix(".tex")) as temporary:
        temporary.write_text(latex(table, caption))


def latex(table: pd.DataFrame, caption: str) -> str:
    """A booktabs table; long cells wrap."""
    escape = str.maketrans({character: f"\\{character}" for character in "_%&#{}"})
    header, *lines = (
        " & ".join(str(cell).translate(escape) for cell in row) + r" \\"
        for row in [(table.index.name, *table.columns), *table.itertuples()]
    )
    width = 0.7 / len(table.columns)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption.translate(escape)}}}",
            rf"\begin{{tabular}}{{l*{{{len(table.columns)}}}{{p{{{width:.2f}\linewidth}}}}}}",
            r"\toprule",
            header,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
