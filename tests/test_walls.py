"""The walls and the arrows of the house, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "featviz_core"

# A module may import what stands in a line above its own; a folder's modules may import each other.
FLOORS = (
    "about errors lazy pixels",
    "batches borrowing devices drawing findings images layouts preprocessing zip_files zoo",
    "experiment",
    "charts demo hubs picture_folders run_charts trace watch weights",
    "architectures capture experiment_file layer_charts ledger picture_dataset",
    "checkpoints loaded_model rerun",
    "experiment_model models",
    "seen",
    "runs",
    "diagnosis",
    "techniques",
    "checklist",
    "catalog",
    "__init__",
    "__main__ worker",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, wherever in it; names taken from a package count as its modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inside = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = inside.is_dir() or inside.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def packages_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def floor_name(module: str) -> str:
    """`featviz_core.demo.samples` -> `demo`; the package itself is `__init__`."""
    return [*module.split("."), "__init__"][1]


def own_name(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", files(CORE), ids=relative)
def test_core_knows_nothing_of_streamlit_and_altair_is_for_charts(path: Path) -> None:
    found = packages_of(path)
    assert not found & {"streamlit", "pages", "app", "tests"}
    assert "altair" not in found or path.name.endswith("charts.py")


@pytest.mark.parametrize("path", [ROOT / "app.py", *files(ROOT / "pages")], ids=relative)
def test_pages_know_nothing_of_torch_and_altair(path: Path) -> None:
    assert not packages_of(path) & {"torch", "torchvision", "altair", "tests"}


@pytest.mark.parametrize("path", files(CORE), ids=relative)
def test_arrows_run_one_way(path: Path) -> None:
    own = own_name(path)
    assert own in FLOOR, f"give '{own}' a floor in this test"
    for module in imported(path):
        if not module.startswith("featviz_core"):
            continue
        other = floor_name(module)
        assert other in FLOOR, f"give '{other}' a floor in this test"
        if own == other:
            known = ("", path.relative_to(CORE).parts[1])
            assert own != "techniques" or _technique(module) in known or (path, module) in ALLOWED, module
        else:
            assert FLOOR[other] < FLOOR[own] or (path, other) in ALLOWED, f"{own} may not import {module}"


def _technique(module: str) -> str:
    return [*module.split("."), "", ""][2]


# While a model trains, the monitor draws where it looks: with the public function of the technique that does so.
ALLOWED = {(CORE / "techniques" / "training_monitor" / "pictures.py", "featviz_core.techniques.class_activation")}


def test_the_pages_shared_code_knows_no_page() -> None:
    for path in files(ROOT / "pages" / "_ui"):
        for module in imported(path):
            assert not module.startswith("pages.") or module.startswith("pages._ui"), f"{relative(path)}: {module}"


def test_the_frame_is_short_and_has_no_torch() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) <= 60


TORCH_FREE = (
    "about",
    "catalog",
    "charts",
    "drawing",
    "errors",
    "images",
    "ledger",
    "picture_folders",
    "preprocessing",
    "zoo",
    "demo.experiments",
    "demo.models",
    "demo.samples",
)


def test_what_the_menu_needs_imports_no_torch() -> None:
    program = (
        f"import sys, {', '.join(f'featviz_core.{name}' for name in TORCH_FREE)}\n"
        "from featviz_core.catalog import abouts\n"
        "assert abouts()\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'torchvision', 'streamlit'}))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


def test_the_home_page_is_there_before_what_takes_long_to_import() -> None:
    program = (
        "import sys\nfrom pages._ui import cached, menu, project, show\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(found & {'torch', 'torchvision', 'altair', 'pandas', 'numpy', 'PIL'}))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
