"""The command line: `python -m featviz_core checklist FILE[:FUNCTION]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featviz_core.errors import FeatVizError


def main(arguments: list[str] | None = None) -> int:
    """Run the checklist on an experiment file. 0: no fail, 1: a fail, 2: the file or its factory failed."""
    asked = _parser().parse_args(arguments)
    try:
        return _checklist(asked)
    except FeatVizError as error:
        line, _, example = str(error).partition("\n\n")
        print(line.replace("\n", " "), file=sys.stderr)
        if example:
            print(example)
        if trace := getattr(error, "trace", ""):
            print(trace)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m featviz_core", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    checklist = commands.add_parser("checklist", help="find out why an experiment does not train")
    checklist.add_argument("experiment", metavar="FILE[:FUNCTION]", help="an experiment file, or demo/healthy_cnn")
    checklist.add_argument("--device", default="cpu", help="where to run it (cpu)")
    checklist.add_argument("--budget", default="quick", choices=("quick", "full"), help="how long it may take (quick)")
    checklist.add_argument("--seed", default=0, type=int, help="the start of all random numbers (0)")
    for form in ("json", "html", "markdown"):
        checklist.add_argument(f"--{form}", type=Path, metavar="OUT", help=f"write the report as {form}")
    return parser


def _checklist(asked: argparse.Namespace) -> int:
    from featviz_core.checklist.report import SIGNS
    from featviz_core.checklist.runner import check_file

    places: dict[str, Path | None] = {form: getattr(asked, form) for form in ("json", "html", "markdown")}
    # Found out now rather than when the work is done, and before the working folder changes.
    files = {form: _writable(path) for form, path in places.items() if path is not None}
    report = check_file(asked.experiment, device=asked.device, budget=asked.budget, seed=asked.seed, progress=_progress)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    for verdict in report.items:
        print(f"{SIGNS[verdict.status]} {verdict.id:<24} {verdict.summary}")
    print(f"\n{report.headline()}")
    if report.root_cause is not None:
        print(report[report.root_cause].remedy)
    for form, path in files.items():
        path.write_text(getattr(report, f"to_{form}")(), encoding="utf-8")
    return int(report.failed)


def _writable(path: Path) -> Path:
    if not path.resolve().parent.is_dir():
        raise FeatVizError(f"Cannot write {path}.", why="Its folder does not exist.", do="Create it first.")
    return path.resolve()


def _progress(fraction: float, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{fraction:4.0%} {text:<40}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
