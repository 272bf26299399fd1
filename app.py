"""The frame: the menu from the catalogue, the shared pickers, and the page that was chosen."""

from pathlib import Path

import streamlit as st

from featviz_core.errors import FeatVizError
from pages._ui import cached, menu, pickers, project, show

# Absolute, because an experiment's file changes the working folder while it runs.
ASSETS = Path(__file__).resolve().parent / "assets"

st.set_page_config(page_title="FeatViz", page_icon=":material/biotech:", layout="wide")
st.logo(ASSETS / "logo.svg", size="large", icon_image=ASSETS / "icon.svg")

menu.close_false_alarm()
page = st.navigation(menu.pages())
try:
    with st.sidebar:
        pickers.draw()
    if (problem := project.problem()) is not None:
        show.error(problem)
    page.run()
except FeatVizError as error:
    show.error(error)
cached.warm_up()
