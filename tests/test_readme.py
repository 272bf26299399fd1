"""What the README says is so: its commands, its table, its five lines of Python, its pictures and links."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from featviz_core.catalog import abouts

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = sorted({link for link in re.findall(r"\]\(([^)#\s]+)\)", README) if "://" not in link})
MODULES = sorted(set(re.findall(r"python -m ([\w.]+)", README)) - {"pytest", "venv"})


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", README, flags=re.M | re.S)


def test_two_commands_do_all_the_set_up() -> None:
    (block,) = blocks("bash setup")
    start, test = block.splitlines()
    for command in (start, test):
        assert command.startswith("python3 -m venv .venv && "), "each has to work on a fresh clone"
        assert "pip install -r requirements.txt" in command
    assert start.endswith("streamlit run app.py")
    assert "-r tests/requirements.txt" in test
    assert "python -m pytest" in test
    assert "On Windows" in README


def test_the_table_is_the_catalogue() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (.+?) \|$", README, flags=re.M)
    expected = {(about.title, slug, about.question) for slug, about in abouts().items()}
    assert {(title, Path(page).stem, question) for title, page, question in rows} == expected
    assert len(rows) == len(expected)


def test_the_five_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks("python")[0]
    assert len([line for line in code.splitlines() if line]) == 5
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})  # what a reader does with it
    (made,) = tmp_path.glob("*.png")
    with Image.open(made) as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize("link", LINKS)
def test_what_is_linked_is_there(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("module", MODULES)
def test_commands_name_modules_that_are_there(module: str) -> None:
    assert find_spec(module) is not None


def test_pictures_are_of_a_reasonable_size() -> None:
    pictures = [ROOT / link for link in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)]
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 400_000
        with Image.open(path) as picture:
            assert picture.width >= 1000


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_every_requirement_is_pinned_and_says_why(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        assert re.fullmatch(r"[\w-]+==[\w.]+ +# .{5,}", line), line


def test_the_licence_is_there() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "The FeatViz authors" in licence
    assert "Apache-2.0" in README


def test_nothing_here_depends_on_one_machine() -> None:
    texts = [README, *((ROOT / name).read_text() for name in (".ci/run", "requirements.txt", "tests/requirements.txt"))]
    for text in texts:
        assert not re.findall(r"https?://(?!127\.0\.0\.1|localhost)\S*(?:pypi|index|simple|mirror)\S*", text)
        assert not re.findall(r"(?<![\w.])/(?:home|root|work|opt|Users)/", text)
        assert "--index-url" not in text
