"""The frame: the menu from the catalogue, the shared pickers, and the page that was chosen."""

from pathlib import Path

import streamlit as st

from featviz_core.errors import FeatVizError
from pages._ui import cached, menu, project, show

# Absolute, because an experiment's file changes the working folder while it runs.
ASSETS = Path(__file__).resolve().parent / "assets"


def draw_pickers() -> None:
    """Imports what reads pictures, which the home page need not wait for."""
    from pages._ui import pickers

    with st.sidebar:
        pickers.draw()
    if (problem := project.problem()) is not None:
        with above:
            show.error(problem)


st.set_page_config(page_title="FeatViz", page_icon=":material/biotech:", layout="wide")
st.logo(ASSETS / "logo.svg", size="large", icon_image=ASSETS / "icon.svg")

menu.close_false_alarm()
page = st.navigation(menu.pages())
above = st.container()
# The home page asks for nothing that is picked: it can be read while the browser still draws the pickers.
parts = [page.run, draw_pickers] if menu.is_home(page) else [draw_pickers, page.run]
try:
    for part in parts:
        part()
except FeatVizError as error:
    show.error(error)
cached.warm_up()
