"""How an experiment's pictures are loaded: what augmentation makes of them, and how fast they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from PIL import Image

from pages._ui import clickable, jobs, pickers, show
from pages._ui.project import Project

if TYPE_CHECKING:
    from featviz_core.techniques.data_check.augmentation import AugmentationCheck, AugmentedPicture
    from featviz_core.techniques.data_check.speed import LoaderSpeed

_PACKAGE = "featviz_core.techniques.data_check"
_TILE = 96  # pixels


def augmentation(project: Project) -> None:
    """Originals beside samples, and how much is left of them."""
    device = pickers.chosen().device
    found: AugmentationCheck | None = jobs.ask(
        ("augmentation", project.spec, project.version, device),
        f"{_PACKAGE}.augmentation:check_augmentation",
        project.spec,
        device=device,
        start="Try the augmentation",
        help="Reads some pictures again and again, with and without augmentation.",
    )
    if found is None:
        st.caption("Shows training pictures without augmentation beside samples of it, and measures what is left.")
        return
    show.findings(found.findings)
    st.caption(found.source)
    if found.kept is not None:
        for place, (name, share) in zip(st.columns(4), _shares(found).items(), strict=True):
            place.metric(name, f"{share:.0%}" if share == share else "not known", help=_MEANINGS[name])
    for picture in found.pictures:
        _row(found, picture)
    if found.steps:
        marks = {
            "random": ":orange[:material/casino:]",
            "own": ":blue[:material/person:]",
            "fixed": ":gray[:material/lock:]",
        }
        st.markdown("**The transform**, step by step: " + ", ".join(f"{mark} {kind}" for kind, mark in marks.items()))
        st.markdown("\n".join(f"1. {marks[step.kind]} `{step.text}`" for step in found.steps))


_MEANINGS = {
    "Like its original": "How often a sample is nearer to its own original than to another one; guessing gives 50 %.",
    "Right on clean": "Accuracy of a linear probe on the model's features, on clean pictures it was not fitted to.",
    "Right on augmented": "The same probe on the same pictures, augmented.",
    "Guessing": "Always naming the commonest class.",
}


def _shares(found: AugmentationCheck) -> dict[str, float]:
    assert found.kept is not None
    values = (float(found.kept.likeness.mean()), found.kept.clean, found.kept.changed, found.kept.chance)
    return dict(zip(_MEANINGS, values, strict=True))


def _row(found: AugmentationCheck, picture: AugmentedPicture) -> None:
    label = picture.label
    name = found.class_names[label] if label is not None and 0 <= label < len(found.class_names) else ""
    first = [] if picture.clean is None else [picture.clean]
    sheet = clickable.sheet(
        [_square(pixels) for pixels in [*first, *picture.samples]], columns=1 + len(picture.samples), gap=8
    )
    shares = ", ".join(f"{share:.0%}" for share in picture.likeness if not np.isnan(share))
    title = f"train {picture.index}" + (f" · {name}" if name else "")
    st.caption(f"{title}{': the original first; each sample is like it by ' + shares if shares else ''}")
    st.image(sheet.image, alt=f"{title}: the original and samples of its augmentation")


def _square(pixels: np.ndarray) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = _TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    canvas = Image.new("RGBA", (_TILE, _TILE))
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    canvas.paste(image.resize(size, method), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return canvas


def speed(project: Project) -> None:
    """Pictures a second for each setting of the loader, and how long the model waits."""
    device = pickers.chosen().device
    found: LoaderSpeed | None = jobs.ask(
        ("loader speed", project.spec, project.version, device),
        f"{_PACKAGE}.speed:check_loader_speed",
        project.spec,
        device=device,
        start="Time the loader",
        help="Loads for some seconds with each setting, alone and with a training step after each batch.",
    )
    if found is None:
        st.caption(
            "Measures whether training waits for its pictures, and what `num_workers` and `pin_memory` would give."
        )
        return
    show.findings(found.findings)
    most = found.frame()[["loading", "training"]].max().fillna(1.0)
    st.dataframe(
        found.frame().drop(columns="current").round({"loading": 0, "training": 0, "waiting": 3, "first_batch": 2}),
        hide_index=True,
        column_config={
            "setting": "setting (the first is the loader's own)",
            "loading": st.column_config.ProgressColumn(
                "loading alone, pictures/s", format="localized", min_value=0, max_value=float(most["loading"])
            ),
            "training": st.column_config.ProgressColumn(
                "with training, pictures/s", format="localized", min_value=0, max_value=float(most["training"])
            ),
            "waiting": st.column_config.ProgressColumn(
                "time waited for data", format="percent", min_value=0, max_value=1
            ),
            "first_batch": st.column_config.NumberColumn("seconds to the first batch"),
        },
    )
    st.caption(
        f"Batches of {found.batch_size} on {found.device}. More workers than processors make it slower; "
        "`pin_memory` is tried where there is a CUDA GPU."
    )
