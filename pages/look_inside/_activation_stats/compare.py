"""Two looks side by side: another picture, the other mode, fresh weights, another checkpoint, more training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from featviz_core import charts, layer_charts
from featviz_core.demo.models import DEMO_MODELS
from featviz_core.images import Picture
from featviz_core.techniques import activation_stats as technique
from featviz_core.techniques.activation_stats import ActivationStats
from pages._ui import cached, pickers
from pages._ui.cached import Look, Upload
from pages._ui.pickers import Chosen
from pages.look_inside._activation_stats.view import Compared, View

_MODES = ("eval mode", "training mode")
_FILE = "a checkpoint file"
_CHECKPOINT_MB = 500


def models(
    chosen: Chosen, look: Look, given: list[Picture], options: dict[str, Any], stats: ActivationStats
) -> Compared | None:
    """The model in the picker, compared with itself or with another of its structure."""
    what = st.segmented_control(
        "Compare with",
        ["fresh weights", "the other mode", "another picture", "other weights"],
        default="fresh weights",
        required=True,
        key="compare",
        bind="query-params",
        help="What to set beside it, layer by layer.",
    )
    if what == "the other mode":
        return _modes(stats, look.ask("activation_stats", *given, **(options | {"training": not stats.training})))
    if what == "another picture":
        return _picture(chosen, look, options)
    if what == "other weights":
        return _weights(chosen, given, options, stats)
    st.caption("Both in training mode: a fresh BatchNorm knows no statistics yet.")
    options = options | {"training": True}
    ours = look.ask("activation_stats", *given, **options)
    return Compared("this model", "fresh weights", ours, look.ask("fresh_activation_stats", *given, **options))


def _picture(chosen: Chosen, look: Look, options: dict[str, Any]) -> Compared:
    first = chosen.picture_name
    second = pickers.second_picture(chosen, help="Compared with the picture in the picker.")
    ours, theirs = (look.ask("activation_stats", chosen.pictures[name], **options) for name in (first, second))
    return Compared(first, second, ours, theirs)


def _weights(chosen: Chosen, given: list[Picture], options: dict[str, Any], stats: ActivationStats) -> Compared | None:
    others = [name for name in (f"demo/{known}" for known in DEMO_MODELS) if name != chosen.model.name]
    name = st.selectbox(
        "Other weights",
        [_FILE, *others],
        key="other weights",
        bind="query-params",
        help="A checkpoint of the same architecture, from before or after; or a demo model.",
    )
    choice, upload = replace(chosen.model, name=name, weights=None, checkpoint=None, file="", experiment=None), None
    if name == _FILE:
        file = st.file_uploader(
            "Checkpoint to compare with",
            type=["safetensors", "pth", "pt", "bin"],
            max_upload_size=_CHECKPOINT_MB,
            key="second checkpoint",
            help="A .safetensors file or a saved state_dict of the same architecture.",
        )
        if file is None:
            return None
        upload = Upload(file.name, file.getvalue())
        digest = hashlib.sha256(file.getvalue()).hexdigest()
        choice = replace(choice, name=chosen.model.name, checkpoint=digest, file=file.name)
    other = cached.look(choice, upload)
    return Compared("this model", choice.file or name, stats, other.ask("activation_stats", *given, **options))


def steps(
    ask: Callable[..., ActivationStats | None], options: dict[str, Any], stats: ActivationStats
) -> Compared | None:
    """An experiment before and after more of its own training, or in its two modes."""
    what = st.segmented_control(
        "Compare with",
        ["after more training", "the other mode"],
        default="after more training",
        required=True,
        key="compare",
        bind="query-params",
        help="The same experiment after more steps of its own training, or in the other mode.",
    )
    if what == "the other mode":
        other = ask("Look in the other mode", training=not options["training"])
        return None if other is None else _modes(stats, other)
    more = st.number_input(
        "Steps", 1, 4000, options["steps"] + 30, key=f"more than {options['steps']}", width=150, help="From the start."
    )
    other = ask("Train and look", steps=int(more))
    names = [f"after {number} steps" for number in (options["steps"], int(more))]
    return None if other is None else Compared(*names, stats, other)


def _modes(stats: ActivationStats, other: ActivationStats) -> Compared:
    return Compared(_MODES[stats.training], _MODES[other.training], stats, other)


def draw(view: View) -> None:
    """The comparison: where the two part, spread by spread, and the chosen layer's histograms over each other."""
    found = view.source.compare()
    if found is None:
        return
    result = technique.compare_activations(found.first, found.second)
    if result.diverging:
        far = result.frame.set_index("layer")["apart"][result.diverging]
        st.markdown(
            f":material/call_split: **They part at `{result.diverging}`**, the first layer more than a tenth of a "
            f"standard deviation apart ({_number(far)})."
        )
    else:
        st.success("**No layer differs** by more than a tenth of a standard deviation.", icon=":material/check_circle:")
    names = {found.first_name: "first", found.second_name: "second"}
    tall = pd.concat([_one_side(result.frame, label, side) for label, side in names.items()], ignore_index=True)
    shown = list(dict.fromkeys(tall["layer"]))
    short = [name for name, address in zip(view.names, view.frame["layer"], strict=True) if address in shown]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.markdown("**Standard deviation** :gray[(log scale)]")
        chart = layer_charts.course(tall, "std", names=short, chosen=view.address, color="of", log=True)
        st.altair_chart(chart, alt="The standard deviation of each layer, of both")
    with right:
        st.markdown(f"**Histogram** of `{view.address}`")
        _histograms(found, view.address)
    st.dataframe(
        result.frame,
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(format="%.3g") for name in result.frame.columns if name != "layer"
        },
    )


def _one_side(frame: pd.DataFrame, name: str, side: str) -> pd.DataFrame:
    return pd.DataFrame({"layer": frame["layer"], "std": frame[f"std_{side}"], "of": name})


def _histograms(found: Compared, address: str) -> None:
    if address not in found.first.layers or address not in found.second.layers:
        st.info("Only one of the two has this layer.", icon=":material/layers_clear:")
        return
    both = {found.first_name: found.first, found.second_name: found.second}
    tall = pd.concat([stats.layers[address].bins().assign(of=name) for name, stats in both.items()], ignore_index=True)
    st.altair_chart(charts.bins(tall, color="of"), alt="Both histograms of the chosen layer")


def _number(value: float) -> str:
    return "only one holds NaN or infinity" if math.isinf(value) else f"{value:.2g}"
