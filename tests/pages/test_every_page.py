"""Every page of the catalogue opens, says what it is, and explains its controls."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from featviz_core.catalog import abouts

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("pages/*/*.py") if path.parent.name != "_ui")
CONTROLS = [
    *("button", "button_group", "camera_input", "checkbox", "color_picker", "download_button", "file_uploader"),
    *("multiselect", "number_input", "radio", "select_slider", "selectbox", "slider", "text_area", "text_input"),
    "toggle",
]

OpenPage = Callable[..., AppTest]


def unexplained(app: AppTest) -> list[str]:
    """The labels of the controls without a help text."""
    return [f"{kind} {w.label!r}" for kind in CONTROLS for w in app.get(kind) if not getattr(w, "help", "")]


def test_every_technique_has_its_page_and_its_test() -> None:
    stems = [Path(page).stem for page in PAGES]
    for slug in abouts():
        assert stems.count(slug) == 1, f"expected one pages/<section>/{slug}.py"
        assert list(ROOT.glob(f"tests/techniques/test_{slug}*.py")), f"expected tests/techniques/test_{slug}.py"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_opens_and_explains_itself(path: str, open_page: OpenPage) -> None:
    app = open_page(path)
    assert len(app.title) == 1
    slug = Path(path).stem
    if slug in abouts():
        assert app.title[0].value == abouts()[slug].title
        assert any(abouts()[slug].question in text.value for text in app.markdown)
    assert not unexplained(app)
    for tab in [tab.label for tab in app.tabs]:
        app.session_state["more"] = tab
        app.run()
        assert not app.exception, (tab, app.exception)
        assert [part.label for part in app.tabs if part.children] == [tab]
        assert not unexplained(app), tab


@pytest.mark.parametrize("path", PAGES)
def test_what_the_model_saw_can_be_asked_for_on_every_page(path: str, open_page: OpenPage) -> None:
    app = open_page(path)
    next(button for button in app.button if button.label == "What the model saw").click().run()
    assert not app.exception
    text = "\n".join(element.value for element in app.markdown)
    assert "**What the model saw:** 128×128 pixels." in text
    assert "Normalised to (value − mean) / std" in text
    answers = app.table[-1].value
    assert len(answers) == 7
    assert answers["preprocessing"].iloc[0] == "As it should be"


def test_what_cannot_be_seen_is_explained(open_page: OpenPage) -> None:
    app = open_page()
    app.selectbox(key="model").set_value("my checkpoint").run()
    next(button for button in app.button if button.label == "What the model saw").click().run()
    assert not app.exception
    assert any("No checkpoint" in message.value for message in app.error)


def test_the_home_page_leads_to_every_technique(open_page: OpenPage) -> None:
    app = open_page()
    leading = {link.proto.page for link in app.get("page_link")}
    assert leading == {"checklist", *abouts()}
    text = "\n".join(element.value for element in (*app.markdown, *app.subheader))
    for about in abouts().values():
        assert about.title in text
        assert about.question in text
        assert all(symptom in text for symptom in about.symptoms)


def run_apart(code: str) -> str:
    """What a process of its own prints: only there is `sys.modules` known to be clean."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


_FIRST_PAINT = """
import sys
from pathlib import Path
from streamlit.testing.v1 import AppTest
from pages._ui import cached
{patch}
app = AppTest.from_file(str(Path("app.py").resolve()), default_timeout=120).run()
assert not app.exception, app.exception
assert app.title
{then}
"""


def test_the_first_page_is_painted_without_torch() -> None:
    patch, then = "cached.warm_up = lambda: None", "print([m for m in ('torch', 'torchvision') if m in sys.modules])"
    assert run_apart(_FIRST_PAINT.format(patch=patch, then=then)) == "[]"


def test_torch_starts_once_the_first_page_is_painted() -> None:
    then = "cached._warming.join(120); print(cached.torch_is_loaded())"
    assert run_apart(_FIRST_PAINT.format(patch="", then=then)) == "True"
