"""Run the catalogue: `python -m featviz_core.checklist.catalogue --part apart --out rows.jsonl`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from featviz_core.checklist.catalogue.cases import PARTS, cases
from featviz_core.checklist.catalogue.run import Row, as_dict, run_all
from featviz_core.checklist.catalogue.table import matrix, misses, summary


def main() -> int:
    """Run what is asked for and print the figures."""
    asked = _arguments()
    drawn = [case for part in PARTS if asked.part in (part, "all") for case in cases(part, asked.draw)]
    chosen = [case for case in drawn if asked.only in case.name]
    if asked.list:
        print("\n".join(case.name for case in chosen))
        return 0
    out = Path(asked.out) if asked.out else None
    rows = _known(out, {case.name for case in chosen})
    known = {row.case for row in rows}
    for row in run_all([case for case in chosen if case.name not in known], asked.workers):
        rows.append(row)
        if out is not None:
            with out.open("a") as file:
                file.write(json.dumps(as_dict(row)) + "\n")
        print(f"{len(rows)}/{len(chosen)} {row.case}: {row.named or 'nothing'} ({row.seconds} s)", file=sys.stderr)
    if any(row.fault for row in rows):
        print(matrix(rows).to_string(), end="\n\n")
    print(misses(rows), end="\n\n")
    print(summary(rows))
    return 0


def _known(out: Path | None, wanted: set[str]) -> list[Row]:
    """The rows that an earlier run left."""
    if out is None or not out.exists():
        return []
    found = [json.loads(line) for line in out.read_text().splitlines()]
    return [
        Row(**row | {"fails": tuple(row["fails"]), "warns": tuple(row["warns"])})
        for row in found
        if row["case"] in wanted
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m featviz_core.checklist.catalogue", description=__doc__)
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all", help="what checks were tuned on, or the rest")
    parser.add_argument("--draw", type=int, default=1, help="which pairing of faults, set-ups and seeds: 1, 2, ...")
    parser.add_argument("--only", default="", help="cases with this text in their names")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--out", help="a file that gets a line of JSON for each case; what it holds is not run again")
    parser.add_argument("--list", action="store_true", help="print the names of the cases only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
