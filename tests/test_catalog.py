"""Whoever adds a technique adds a folder, a page, a test and a row in the README; here is said what is missing."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import featviz_core as fv
from featviz_core import techniques
from featviz_core.about import About
from featviz_core.catalog import abouts, packages, preview

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ("look_inside", "debug_training")


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.__name__.rpartition(".")[2])
def test_a_technique_is_complete(package: ModuleType) -> None:
    slug, about = package.__name__.rpartition(".")[2], package.ABOUT
    assert isinstance(about, About)
    assert about.slug == slug
    for field in ("title", "question", "icon", "symptoms", "how_to_read"):
        value = getattr(about, field)
        assert value, field
        assert all(part.strip() for part in ([value] if isinstance(value, str) else value)), field
    assert about.question.endswith("?")
    assert about.icon.startswith(":material/")
    assert all(citation and url.startswith("https://") for citation, url in about.references)

    assert "ABOUT" not in package.__all__
    assert list(package.__all__) == sorted(set(package.__all__))
    for name in package.__all__:
        # Twice, because a submodule of the same name takes the name's place once it is imported.
        for _ in range(2):
            value = getattr(package, name)
            assert not isinstance(value, ModuleType), f"{name} is hidden by the submodule of that name"
        assert getattr(fv, name) is value
        assert value.__doc__, name
        assert name in dir(fv)

    pages = [page for page in ROOT.glob("pages/*/*.py") if page.stem == slug and page.parent.name != "_ui"]
    assert [page.parent.name in SECTIONS for page in pages] == [True], f"one page pages/<section>/{slug}.py"
    assert (ROOT / "tests" / "techniques" / f"test_{slug}.py").is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith("|") and about.question in line]
    assert len(rows) == 1, "one row in the README's table"
    assert about.title in rows[0]


def test_no_two_techniques_share_a_public_name() -> None:
    names = [name for package in packages() for name in package.__all__]
    assert len(names) == len(set(names))


def test_public_names_are_not_hidden_by_modules() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(fv.__path__)}
    for name in submodules - {"__main__"}:
        import_module(f"featviz_core.{name}")
    for name in fv._PLACES:
        assert not isinstance(getattr(fv, name), ModuleType), name


def test_the_catalogue_finds_every_folder() -> None:
    folders = {path.parent.name for path in Path(techniques.__path__[0]).glob("*/__init__.py")}
    assert set(abouts()) == folders
    assert list(abouts()) == sorted(folders)


def test_every_page_of_a_technique_has_a_technique() -> None:
    found = {page.stem for section in SECTIONS for page in (ROOT / "pages" / section).glob("*.py")}
    assert found <= set(abouts())


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fv.nothing
    assert not hasattr(fv, "_private")
    with pytest.raises(AttributeError):
        _ = packages()[0].nothing


@pytest.mark.parametrize("slug", abouts())
def test_every_technique_has_a_preview(slug: str) -> None:
    picture = preview(slug)
    assert picture is None or min(picture.size) > 50
