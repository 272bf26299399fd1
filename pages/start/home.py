"""The home page: what this is, and where to start for each symptom."""

from __future__ import annotations

import streamlit as st

from featviz_core.catalog import abouts
from pages._ui import menu

st.title("What did my model learn?", anchor=False)
for slug, about in abouts().items():
    st.page_link(menu.page_of(slug), label=about.title)
