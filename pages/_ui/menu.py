"""The menu: the pages that stand in `pages/<section>/`, with titles from the catalogue."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.pages_manager import PagesManager

from featviz_core.catalog import abouts

PAGES = Path(__file__).resolve().parents[1]
SECTIONS = {"start": "Start", "look_inside": "Look inside", "debug_training": "Debug training"}
# Pages that are no technique: title and icon.
_OWN = {
    "home": ("Home", ":material/home:"),
    "checklist": ("Debug checklist", ":material/checklist:"),
}


def pages() -> dict[str, list[Page]]:
    """All pages by section, in the order of their titles; the home page first."""
    return {
        title: found
        for section, title in SECTIONS.items()
        if (found := [_page(path) for path in sorted((PAGES / section).glob("*.py"), key=_place)])
    }


def is_home(page: Page) -> bool:
    """Whether this is the page that opens first."""
    return page.url_path == ""


def close_false_alarm() -> None:
    """Close the "Page not found" dialog that the first visitor after a start gets on a deep link.

    Until `st.navigation` has run once in the process, Streamlit takes any folder named `pages` for its older kind of
    menu and does not know our pages; a moment later it shows the right one behind that dialog.
    """
    if PagesManager.uses_pages_directory:
        st.html(_CLOSE_DIALOG, unsafe_allow_javascript=True)


_CLOSE_DIALOG = """<script>
const started = Date.now();
const timer = setInterval(() => {
  const dialog = [...document.querySelectorAll('[role=dialog]')].find((d) => d.innerText.includes('Page not found'));
  if (dialog) dialog.querySelector('button')?.click();
  if (dialog || Date.now() - started > 3000) clearInterval(timer);
}, 20);
</script>"""


def page_of(slug: str) -> Path:
    """The file of a technique's page."""
    return next(PAGES.glob(f"*/{slug}.py"))


def _place(path: Path) -> tuple[int, str]:
    """Where a page stands in its section: those that are no technique first, in their own order."""
    return (list(_OWN).index(path.stem) if path.stem in _OWN else len(_OWN)), path.stem


def _page(path: Path) -> Page:
    slug = path.stem
    if slug in _OWN:
        title, icon = _OWN[slug]
        return st.Page(path, title=title, icon=icon, url_path=slug, default=slug == "home")
    about = abouts()[slug]
    return st.Page(path, title=about.title, icon=about.icon, url_path=slug)
