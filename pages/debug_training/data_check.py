"""Is what the loaders give what one thinks they give? Verdicts, batches in numbers, pictures to look at."""

from __future__ import annotations

from functools import partial

import streamlit as st

from featviz_core.about import About
from pages._ui import show
from pages.debug_training._data_check import loading, pictures, sources, values
from pages.debug_training._data_check.sources import Checked, Source

_FEW = "first batches"
_AMOUNTS = {_FEW: 3, "everything": None}


def page() -> None:
    about = show.header("data_check")
    source = sources.pick()
    checked, num_batches = None, None
    if source is not None:
        num_batches, judged = controls(source)
        checked = source.check(num_batches, judged=judged)
    if checked is not None:
        verdicts(checked)
        pictures.samples(checked.check)
    show.tabs(parts(about, source, checked, num_batches))


def controls(source: Source) -> tuple[int | None, bool]:
    """How much is looked at, and whether a model judges the labels."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        amount = st.segmented_control(
            "Look at",
            list(_AMOUNTS),
            default=_FEW,
            required=True,
            key="amount",
            bind="query-params",
            help="Three batches take a moment. Everything finds duplicates, leaks and missing classes for sure.",
        )
        judged = st.toggle(
            "Doubt labels by a model",
            key="judged",
            bind="query-params",
            disabled=not sources.can_be_judged(source),
            help="Lists pictures whose label the model's features speak against: of an experiment its own model, "
            "or copies of it that learn from half of the pictures first (up to four minutes); for class folders the "
            "model in the sidebar, which should be trained on such pictures (not an experiment's).",
        )
    return _AMOUNTS[amount], judged and sources.can_be_judged(source)


def verdicts(checked: Checked) -> None:
    """The verdict, what was looked at, the findings, and the article's table."""
    check = checked.check
    show.verdict(check.findings)
    seen = [
        f"{show.count(split.pictures, f'{split.name} picture')} in {show.count(split.batches, 'batch', 'batches')}"
        + ("" if split.complete else ", not all")
        for split in check.splits
    ]
    st.caption(f"Looked at {'; '.join(seen)}, in {sum(check.seconds.values()):.1f} s. {check.normalization.text}")
    show.findings(check.findings)
    if checked.unreadable:
        with st.expander(f"Left out because they cannot be read: {len(checked.unreadable):,}"):
            st.dataframe([{"file": one.name, "reason": one.reason} for one in checked.unreadable], hide_index=True)
    if checked.skipped:
        with st.expander(f"Files that are no pictures of a class folder: {len(checked.skipped):,}"):
            st.dataframe([{"file": name} for name in checked.skipped], hide_index=True)
    values.first_batches(check)


def parts(
    about: About, source: Source | None, checked: Checked | None, num_batches: int | None
) -> dict[str, show.Part]:
    """The tabs: always the same, so that the open one stays open when a result comes."""
    project = source.project if source is not None else None
    of_check = {
        "Classes": values.classes,
        "Values": values.channels,
        "Odd pictures": pictures.odd,
        "Duplicates": pictures.duplicates,
    }
    of_project = {"Augmentation": loading.augmentation, "Loader speed": loading.speed}
    found: dict[str, show.Part] = {"How to read this": partial(show.how_to_read, about)}
    found |= {name: partial(draw, checked.check) if checked else later for name, draw in of_check.items()}
    found |= {name: partial(draw, project) if project else of_experiments for name, draw in of_project.items()}
    kept = partial(values.take_away, source, checked.check, num_batches) if checked and source else later
    return found | {"Take away": kept}


def later() -> None:
    """Instead of a part of the result."""
    st.caption("To be seen once the data was checked.")


def of_experiments() -> None:
    """Instead of what needs a loader of the visitor's own."""
    st.caption("Asks an experiment's own transforms and loader: choose **experiment** above.")


page()
