"""The pictures of a data check: as a person and as the model sees them, the odd ones, and those that come twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st
from PIL import Image, ImageDraw

from featviz_core.techniques.data_check import SUSPECT_KINDS
from pages._ui import clickable

if TYPE_CHECKING:
    from featviz_core.techniques.data_check.result import DataCheck, Duplicate, PictureNote, Pixels

_TILE = 96  # pixels
_ACROSS = 8  # tiles
_LARGE = 280
_PAIRS = 3  # side by side
_CAPTION = 13  # characters that fit below a tile


def samples(check: DataCheck) -> None:
    """The first pictures of each split, as a person and as the model sees them."""
    if not check.samples:
        st.info("No picture could be kept to look at.")
        return
    st.subheader("The first pictures", anchor=False)
    view = st.segmented_control(
        "Seen by",
        ["a person", "the model"],
        default="a person",
        required=True,
        key="seen by",
        bind="query-params",
        help="A person sees the picture with the normalisation undone; the model gets numbers, drawn from the smallest "
        "(black) to the largest (white).",
    )
    for split in dict.fromkeys(sample.picture.split for sample in check.samples):
        own = [sample for sample in check.samples if sample.picture.split == split]
        st.markdown(f"**{split.capitalize()}**, in the loader's order. Do the labels fit?")
        notes = [sample.picture for sample in own]
        tiles = [sample.person if view == "a person" else sample.model for sample in own]
        chosen = _sheet(check, notes, tiles, key=f"samples {split}", alt=f"The first pictures of {split}")
        if chosen is not None:
            _enlarged(check, notes[chosen], tiles[chosen])


def sheets(check: DataCheck) -> dict[str, Image.Image]:
    """The first pictures of each split beside each other, as a person sees them."""
    found: dict[str, list[Image.Image]] = {}
    for sample in check.samples:
        found.setdefault(sample.picture.split, []).append(_tile(sample.person))
    return {split: clickable.sheet(tiles, columns=min(_ACROSS, len(tiles))).image for split, tiles in found.items()}


def odd(check: DataCheck) -> None:
    """Pictures that stand out, by kind; a click enlarges one."""
    kinds = [kind for kind in SUSPECT_KINDS if check.suspects_of(kind)]
    if not kinds:
        st.success("No picture stands out.", icon=":material/check_circle:")
        return
    kind = st.pills(
        "Kind",
        kinds,
        default=kinds[0],
        required=True,
        format_func=lambda kind: f"{SUSPECT_KINDS[kind]} ({len(check.suspects_of(kind))})",
        key="odd kind",
        help="Why a picture is listed; the most conspicuous of each kind first, 24 at most.",
    )
    found = check.suspects_of(kind)
    notes = [suspect.picture for suspect in found]
    tiles = [note.thumbnail for note in notes]
    chosen = _sheet(check, notes, tiles, key=f"odd {kind}", alt=SUSPECT_KINDS[kind])
    if chosen is None:
        st.caption(
            "Click a picture to enlarge it. To be looked at, not to be thrown away: the camera may be like that."
        )
    else:
        _enlarged(check, notes[chosen], tiles[chosen], found[chosen].text)


def duplicates(check: DataCheck) -> None:
    """Pictures that come twice, side by side: leaks and differing labels first."""
    if not check.duplicates:
        st.success("No picture comes twice among those looked at.", icon=":material/check_circle:")
        return
    st.dataframe(check.duplicate_counts, hide_index=True, width="content")
    pairs = list(check.duplicates)
    for start in range(0, len(pairs), _PAIRS):
        for place, pair in zip(st.columns(_PAIRS), pairs[start : start + _PAIRS], strict=False):
            with place, st.container(border=True):
                _pair(check, pair)


def _pair(check: DataCheck, pair: Duplicate) -> None:
    words = {
        "exact": "equal in every pixel",
        "file": "the same file",
        "near": f"near: {pair.distance} of 64 bits differ",
        "mirrored": f"mirrored: {pair.distance} of 64 bits differ",
    }
    st.markdown(
        (":red[:material/error: leak] · " if pair.across else "")
        + (":orange[:material/warning: labels differ] · " if pair.labels_differ else "")
        + words[pair.kind]
    )
    for place, note in zip(st.columns(2), (pair.first, pair.second), strict=True):
        place.image(_tile(note.thumbnail), width=_TILE, alt=note.name)
        place.caption(f"{_plain(note.name)} · {_plain(_label(check, note))}")


def _sheet(
    check: DataCheck, notes: Sequence[PictureNote], tiles: Sequence[Pixels | None], *, key: str, alt: str
) -> int | None:
    """Pictures to click, with their labels; the one that was clicked."""
    chosen: int | None = st.session_state.get(f"{key} chosen")
    chosen = chosen if chosen is not None and chosen < len(notes) else None

    def choose(index: int) -> None:
        st.session_state[f"{key} chosen"] = None if index == chosen else index

    sheet = clickable.sheet([_tile(tile) for tile in tiles], columns=min(_ACROSS, len(tiles)))
    clickable.tiles(
        sheet,
        [f"{note.name}: {_label(check, note)}" for note in notes],
        choose,
        key=key,
        width=sheet.image.width,
        chosen=chosen,
        captions=[_short(_label(check, note)) for note in notes],
        alt=alt,
    )
    return chosen


def _enlarged(check: DataCheck, note: PictureNote, pixels: Pixels | None, text: str = "") -> None:
    picture, words = st.columns([1, 2], gap="medium")
    large = _tile(pixels).resize((_LARGE, _LARGE), Image.Resampling.BILINEAR)
    picture.image(large, width=_LARGE, alt=note.name)
    lines = [f"**{_plain(note.name)}**", f"label: {_plain(_label(check, note))}", _plain(text), _plain(note.path)]
    words.markdown("\n\n".join(filter(None, lines)))


def _tile(pixels: Pixels | None) -> Image.Image:
    """A picture in a square of `_TILE` pixels, whole; an empty one where it cannot be had."""
    canvas = Image.new("RGBA", (_TILE, _TILE), (128, 133, 143, 40))
    if pixels is None:
        return canvas
    image = Image.fromarray(pixels)
    scale = _TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    method = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.BILINEAR
    canvas.paste(image.resize(size, method), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    # A white picture on a white page would not be seen.
    ImageDraw.Draw(canvas).rectangle((0, 0, _TILE - 1, _TILE - 1), outline=(128, 133, 143, 255))
    return canvas


def _label(check: DataCheck, note: PictureNote) -> str:
    if note.label is None:
        return "no label"
    return check.class_names[note.label] if 0 <= note.label < len(check.class_names) else f"class {note.label}"


def _short(text: str) -> str:
    return text if len(text) <= _CAPTION else text[: _CAPTION - 1] + "…"


def _plain(text: str) -> str:
    """Names of files and classes as they are: they may look like Markdown."""
    return "".join("\\" + character if character in r"\`*_{}[]()#+-.!|~<>$:" else character for character in text)
