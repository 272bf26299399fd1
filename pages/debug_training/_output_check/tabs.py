"""The tabs of the output check: scores, confidence, labels, layers, and what to keep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from featviz_core import charts, drawing
from featviz_core.techniques.output_check import ModelOutput
from pages._ui import export
from pages.debug_training._output_check.view import View

_MOST_PICTURES, _MOST_CLASSES = 64, 24
_WIDTH = 900  # of the scores, in pixels
_ROW = 18
_AXIS = 90
_DIAGONAL = "as sure as right"


def scores(view: View) -> None:
    """Pictures across, classes down: the raw numbers as colours."""
    found = view.found
    order = _pictures(found)
    classes = _classes(found)
    shown = found.logits[order][:, classes].T
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    cell = int(np.clip(_WIDTH / shown.shape[1], 12, 30))
    image = Image.fromarray(drawing.colorize(shown, low=low, high=high).repeat(cell, axis=0).repeat(cell, axis=1))
    chart = charts.named_matrix(
        image,
        {place: found.class_name(index) for place, index in enumerate(classes)},
        {place: str(order[place]) for place in range(0, len(order), max(1, 36 // cell))},
        shape=shown.shape,
        width=cell * len(order) + _AXIS,
        height=_ROW * len(classes) + _AXIS,
        titles=("class", "picture"),
    )
    st.altair_chart(chart, width="content", alt="The score of each class for each picture")
    st.altair_chart(charts.color_bar(low, high, "viridis"), width="content", alt="The colour scale")
    said = f"{len(order)} of {len(found.logits)} pictures{', by their labels' if found.labelled else ''}, "
    said += f"{len(classes)} of {found.logits.shape[1]} classes. "
    st.caption(said + "Upright stripes are pictures of their own; level ones are scores that no picture changes.")


def _pictures(found: ModelOutput) -> list[int]:
    """The pictures to show, in order: as given, or those of one label side by side."""
    first = np.arange(len(found.logits))[:_MOST_PICTURES]
    if found.labelled is not None:
        first = first[np.argsort(found.labelled.targets[first], kind="stable")]
    return [int(index) for index in first]


def _classes(found: ModelOutput) -> list[int]:
    """The classes to show, in order: all, or those that are most probable somewhere."""
    shares = np.nan_to_num(found.probabilities)
    strongest = np.argsort(-shares.max(axis=0), kind="stable")[:_MOST_CLASSES]
    return sorted(int(index) for index in strongest)


def confidence(view: View) -> None:
    """How sure the model is, of pictures and of nothing."""
    frame = view.found.frame()
    color = None
    if "right" in frame:
        frame["answer"] = frame["right"].map({True: "right", False: "wrong"})
        frame, color = frame.sort_values("answer"), "answer"
    left, right = st.columns(2, gap="large")
    top = charts.histogram(frame, "confidence", domain=(0.0, 1.0), color=color, title="probability of the answer")
    left.altair_chart(top, alt="How sure the model is")
    largest = float(np.log(max(2, view.found.logits.shape[1])))
    spread = charts.histogram(frame, "entropy", domain=(0.0, largest), color=color, title="entropy in nats")
    right.altair_chart(spread, alt="How spread its probabilities are")
    st.caption("Pictures in each range. Entropy is 0 for a sure answer, and largest where all classes are equal.")
    unseen = view.found.unseen()
    if len(unseen):
        st.markdown("**And where there is nothing to see?**")
        share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        st.dataframe(unseen, hide_index=True, width=560, column_config={"confidence": share})
        st.caption("Noise as bright and varied as the pictures. Networks that never saw any may be very sure of it.")


def against_labels(view: View) -> None:
    """Loss, accuracy, which class is taken for which, and whether confidence can be believed."""
    labelled = view.found.labelled
    if labelled is None:
        return
    loss, nothing, accuracy, error = st.columns(4)
    loss.metric(f"loss ({labelled.loss_name})", f"{labelled.loss:.3g}", help="Averaged over the pictures.")
    nothing.metric("of knowing nothing", f"{labelled.uniform_loss:.3g}", help="Equal chances for all classes.")
    accuracy.metric("accuracy", f"{labelled.accuracy:.1%}", help="Pictures whose highest score is the label's.")
    error.metric("calibration error", f"{labelled.ece:.1%}", help="Mean distance of confidence from accuracy (ECE).")
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Which class is taken for which**")
        confusion(view.found)
    with right:
        st.markdown("**Is it as often right as it is sure?**")
        reliability(labelled.reliability())


def confusion(found: ModelOutput) -> None:
    frame = found.confusion()
    if frame.empty:
        st.info("There are no labels with a single class.", icon=":material/label_off:")
        return
    classes = list(dict.fromkeys(frame["predicted"]))
    if len(classes) > _MOST_CLASSES:
        wrong = frame[(frame["target"] != frame["predicted"]) & (frame["count"] > 0)]
        st.caption(f"{len(classes)} classes are too many for a matrix; here are the most frequent mix-ups.")
        st.dataframe(wrong.sort_values("count", ascending=False).head(30), hide_index=True)
        return
    shown = frame.rename(columns={"target": "label"})
    chart = charts.matrix(shown, row="label", column="predicted", value="share", domain=(0, 1))
    st.altair_chart(chart, width="content", alt="Share of each label's pictures by predicted class")
    st.caption("Rows are labels, columns the model's answers; a row sums to 1.")


def reliability(frame: pd.DataFrame) -> None:
    filled = frame[frame["count"] > 0].assign(curve="the model")
    diagonal = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0], "curve": _DIAGONAL})
    both = pd.concat([filled, diagonal])
    chart = charts.lines(both, "confidence", "accuracy", color="curve", title="confidence")
    st.altair_chart(chart, alt="Accuracy by confidence")
    counts = filled[["low", "high", "count", "confidence", "accuracy"]]
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(counts, hide_index=True, column_config={"confidence": share, "accuracy": share})


def by_layer(view: View) -> None:
    """Where NaN and infinity begin, and how large numbers get on the way."""
    frame = view.found.layers()
    bad = frame[~frame["output_finite"]]
    if view.found.not_finite:
        st.error("NaN or infinity in: " + ", ".join(view.found.not_finite[:12]), icon=":material/error:")
    if len(bad):
        st.error(f"The first output that is not finite is that of `{bad.iloc[0]['layer']}`.", icon=":material/error:")
    else:
        st.caption("Every layer's output is finite. Numbers beyond 65,504 would not be in float16.")
    shown = frame.assign(layer=frame["layer"].replace("", "the model itself"))
    st.dataframe(shown, hide_index=True, column_config={"largest": st.column_config.NumberColumn(format="%.3g")})


def take_away(view: View) -> None:
    """Everything as JSON, the answers and the layers as tables, and the same in Python."""
    found = view.found
    with st.container(horizontal=True):
        st.download_button(
            "Everything as JSON",
            lambda: found.to_json().encode(),
            f"{view.stem}.json",
            "application/json",
            on_click="ignore",
            help="Numbers, findings, tests and scores.",
        )
        st.download_button(
            "Answers as CSV",
            lambda: found.frame().assign(name=list(view.names)).to_csv(index=False).encode(),
            f"{view.stem}_answers.csv",
            "text/csv",
            on_click="ignore",
            help="One row a picture: answer, confidence, entropy, label.",
        )
        st.download_button(
            "Layers as CSV",
            lambda: found.layers().to_csv(index=False).encode(),
            f"{view.stem}_layers.csv",
            "text/csv",
            on_click="ignore",
            help="What each layer gave: finite or not, and its largest value.",
        )
        export.button(lambda to: [to.Table("answers", found.frame()), to.Table("layers", found.layers())], view.stem)
    view.code()
