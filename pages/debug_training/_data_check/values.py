"""The numbers of a data check: the first batches, classes, channels, their course over time, and what to take away."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from featviz_core import charts
from pages._ui import export
from pages.debug_training._data_check import pictures

if TYPE_CHECKING:
    from featviz_core.techniques.data_check.result import DataCheck
    from pages.debug_training._data_check.sources import Source

_MOST_BARS = 40  # classes


def first_batches(check: DataCheck) -> None:
    """The article's table: what a batch is, in shape, type, range and labels."""
    frame = check.frame()
    shown = pd.DataFrame(
        {
            "batch": frame["split"] + " " + frame["batch"].astype(str),
            "shape": frame["shape"].map(_shape),
            "dtype": frame["dtype"],
            "min": frame["min"],
            "max": frame["max"],
            "mean": frame["mean"],
            "std": frame["std"],
            "labels": frame["labels_dtype"] + " " + frame["labels_shape"].map(_shape),
            "label min": frame["label_min"],
            "label max": frame["label_max"],
        }
    )
    numbers = {name: st.column_config.NumberColumn(format="%.3g") for name in ("min", "max", "mean", "std")}
    st.subheader("The first batches", anchor=False)
    st.dataframe(shown, hide_index=True, column_config=numbers)


def classes(check: DataCheck) -> None:
    """How often each class comes, and when."""
    counts = check.class_counts
    if counts.empty:
        st.info("The targets are no class numbers, so there is nothing to count.")
        return
    st.markdown("**How many pictures of each class**")
    if counts["name"].nunique() <= _MOST_BARS:
        st.altair_chart(
            charts.bars(counts, "name", "count", color="split"), width="stretch", alt="Pictures of each class"
        )
    else:
        st.dataframe(counts.sort_values(["split", "count"]), hide_index=True)
    order = check.label_order
    if not order.empty:
        st.markdown("**Which classes come when**")
        for split, part in order.groupby("split", sort=False):
            names = part["label"].map(lambda label: _class_name(check, label))
            chart = charts.presence(part.assign(name=names), title=f"pictures of {split}, in the loader's order")
            st.altair_chart(chart, width="stretch", alt=f"Classes over time, {split}")
        st.caption("A shuffled loader gives an even carpet; a sorted one gives stairs, and a model that forgets.")


def channels(check: DataCheck) -> None:
    """Mean and spread of each channel, against what is expected, and over time."""
    st.markdown(f"**Values of each channel.** {check.normalization.text}")
    frame = _with_expected(check)
    chart, table = st.columns([2, 3], gap="large")
    with chart:
        st.altair_chart(
            charts.spans(frame, "channel", color="split"), width="stretch", alt="Mean, spread and range of each channel"
        )
        st.caption("Point: mean. Thick line: one standard deviation to either side. Thin line: smallest to largest.")
    with table:
        st.dataframe(frame.round(3).rename(columns=lambda name: name.replace("_", " ")), hide_index=True)
        st.caption(
            "After normalisation, means near 0 and standard deviations near 1 are usual. Pixel mean and std have the "
            "normalisation undone (0 is black, 1 white); the expected range is what it makes of black and white."
        )
    if check.over_time.empty:
        return
    st.markdown("**In the loader's order**: steps and slopes say that the data is sorted.")
    for place, name in zip(st.columns(2, gap="large"), ("mean", "std"), strict=True):
        with place:
            drawn = charts.course(check.over_time, "first", name, color="split", title=f"{name} of blocks of pictures")
            st.altair_chart(drawn, width="stretch", alt=f"The {name} of the input over time")


def _with_expected(check: DataCheck) -> pd.DataFrame:
    """The channels, with the range that the normalisation allows for where it is known."""
    frame, norm = check.channels, check.normalization
    if norm.mean:
        given = [(norm.mean[channel], norm.std[channel]) for channel in frame["channel"]]
        frame = frame.assign(
            expected_min=[-mean / std for mean, std in given], expected_max=[(1 - mean) / std for mean, std in given]
        )
    return frame.assign(channel=frame["channel"].astype(str))


def take_away(source: Source, check: DataCheck, num_batches: int | None) -> None:
    """Findings and tables as files, and the same in Python."""
    report = {
        "data": source.name,
        "splits": [asdict(split) for split in check.splits],
        "findings": [asdict(finding) for finding in check.findings],
    }
    with st.container(horizontal=True):
        st.download_button(
            "Findings as JSON",
            json.dumps(report, indent=2, default=str, ensure_ascii=False),
            "data_check.json",
            "application/json",
            on_click="ignore",
            help="Every finding with its evidence and remedy.",
        )
        for label, frame in {
            "Batches": check.frame(),
            "Classes": check.class_counts,
            "Channels": check.channels,
        }.items():
            st.download_button(
                f"{label} as CSV",
                frame.to_csv(index=False),
                f"data_check_{label.lower()}.csv",
                "text/csv",
                on_click="ignore",
                help=f"The table of {label.lower()}.",
            )
        export.button(partial(_sent, check), "data_check")
    name = json.dumps(source.name, ensure_ascii=False)
    if source.project is not None:
        call = f"check = fv.check_experiment_data({name}, num_batches={num_batches})"
        begin = ""
    else:
        begin = "from pathlib import Path\n\n"
        call = (
            'model = fv.load_model("demo/shapes_cnn")\n'
            f"check = fv.check_picture_folders(\n    Path({name}), preprocessing=model.preprocessing, "
            f"num_batches={num_batches}\n).check"
        )
    st.code(f'{begin}import featviz_core as fv\n\n{call}\nprint(check.frame())\nprint(*check.findings, sep="\\n")\n')


def _sent(check: DataCheck, to: Any) -> list[Any]:
    """The first pictures, the tables, and the course of the values over the loader's order."""
    items = [to.Picture(f"pictures/{split}", sheet) for split, sheet in pictures.sheets(check).items()]
    tables = {"batches": check.frame(), "classes": check.class_counts, "channels": check.channels}
    items += [to.Table(name, frame) for name, frame in tables.items() if not frame.empty]
    for split, part in check.over_time.groupby("split", sort=False):
        items.append(to.Table(f"over_time/{split}", part[["first", "mean", "std"]], x="first"))
    return items


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _class_name(check: DataCheck, label: int) -> str:
    return check.class_names[label] if 0 <= label < len(check.class_names) else str(label)
