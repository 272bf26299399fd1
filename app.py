"""The frame: the menu from the catalogue, the shared pickers, and the page that was chosen."""

import streamlit as st

from featviz_core.errors import FeatVizError
from pages._ui import cached, menu, pickers, show

st.set_page_config(page_title="FeatViz", page_icon=":material/biotech:", layout="wide")
st.logo("assets/logo.svg", size="large", icon_image="assets/icon.svg")

menu.close_false_alarm()
page = st.navigation(menu.pages())
try:
    with st.sidebar:
        pickers.draw()
    page.run()
except FeatVizError as error:
    show.error(error)
cached.warm_up()
