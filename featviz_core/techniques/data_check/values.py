"""Verdicts on values: layout, type, NaN, constant pictures, range and normalisation, order of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from featviz_core.findings import Finding
from featviz_core.techniques.data_check import normalizations as norms
from featviz_core.techniques.data_check.collect import Seen, merged
from featviz_core.techniques.data_check.normalizations import Stated, Values
from featviz_core.techniques.data_check.result import Normalization

# Values this large or with so little spread train badly under any normalisation; standardised ones are near 0 and 1.
_LARGE, _FLAT = 10.0, 0.02
_CONSTANT_SHARE = 0.01  # of pictures of one value, above which it is no longer a stray one
_ORDER = (0.02, 3.0)  # how near reversed channels must come, in pixel units, and how much nearer than the straight ones
_FAR = 1.0  # widths of the expected range, beyond which values are not merely noisy
_FEW = 8  # pictures, below which absent values say nothing


def statistics(seen: Seen) -> tuple[Values, Values, Values, Values]:
    """Mean, standard deviation, smallest and largest value `(C,)` over all finite pictures of a split."""
    pixels = seen.pictures.size.prod(1)
    mean, std = merged(seen.pictures.mean, seen.pictures.std, pixels)
    good = seen.pictures.not_finite == 0
    if not good.any():
        return mean, std, mean, mean
    low = seen.pictures.low[good].min(0).astype(float)
    high = seen.pictures.high[good].max(0).astype(float)
    return mean, std, low, high


def recognise(seen: Seen, stated: Stated | None) -> Normalization:
    """How were these pictures normalised?"""
    mean, std, low, high = statistics(seen)
    unknown = Normalization("unknown", (), (), "The values fit no usual normalisation.")
    if not np.isfinite(low).all():
        return Normalization("unknown", (), (), "There are no finite values.")
    wrong = norms.mistake(low, high, mean, std, stated)
    if wrong is not None:
        return wrong.public(f"The values look like {wrong.name}.")
    if stated is not None:
        own = norms.recipe("stated", *stated, len(low))
        return own.public("The normalisation that was stated.") if own.holds(low, high) else unknown
    found = norms.named(low, high)
    if found is not None:
        return found.public(f"The values fill the range of {found.name}.")
    if norms.recipe("", 0, 1, len(low)).holds(low, high):
        return norms.recipe("0 to 1", 0, 1, len(low)).public("All values lie between 0 and 1.")
    if norms.standardised(mean, std):
        return Normalization("standardised", (), (), "The values are centred on 0 with a spread near 1.")
    return unknown


def value_findings(seen: Seen, stated: Stated | None) -> list[Finding]:
    """What is wrong with the values of one split?"""
    if not len(seen):
        return []
    found = [*_form(seen), *_finite(seen), *_constant(seen)]
    mean, std, low, high = statistics(seen)
    if not np.isfinite(low).all():
        return found
    numbers = {"min": low.round(4).tolist(), "max": high.round(4).tolist()}
    numbers |= {"mean": mean.round(4).tolist(), "std": std.round(4).tolist()}
    found += _range(seen, stated, numbers)
    return found + _order(seen, stated)


def _form(seen: Seen) -> list[Finding]:
    found = []
    first = seen.rows[0]
    if "NHWC" in seen.layouts:
        found.append(
            Finding(
                "data.layout",
                "fail",
                "The channels are the last axis",
                "PyTorch's layers expect (N, C, H, W); here rows of the picture would be taken for channels.",
                seen.name,
                {"shape": first.shape, "healthy": "(N, C, H, W)"},
                "Use `transforms.ToTensor()`, or `images.permute(0, 3, 1, 2)`.",
            )
        )
    if "NHW" in seen.layouts:
        found.append(
            Finding(
                "data.layout",
                "warn",
                "The channel axis is missing",
                "Convolutions would take the batch for one picture with many channels.",
                seen.name,
                {"shape": first.shape, "healthy": "(N, 1, H, W)"},
                "Add it with `images.unsqueeze(1)`.",
            )
        )
    whole = sorted({dtype for dtype in seen.dtypes if dtype.startswith(("uint", "int", "bool"))})
    if whole:
        found.append(
            Finding(
                "data.dtype",
                "warn",
                f"Pictures come as whole numbers ({', '.join(whole)})",
                "A layer with floating-point weights refuses them, unless your loop converts them first.",
                seen.name,
                {"dtype": whole, "healthy": "float32"},
                "Use `transforms.ToTensor()`, or `images.float() / 255` before the model.",
            )
        )
    sizes = np.unique(seen.pictures.size, axis=0)
    if len(sizes) > 1:
        text = f"{len(sizes)} sizes, from {'×'.join(map(str, sizes[0]))} to {'×'.join(map(str, sizes[-1]))} pixels."
        found.append(Finding("data.size", "note", "Batches differ in picture size", text, seen.name))
    return found


def _finite(seen: Seen) -> list[Finding]:
    bad = np.flatnonzero(seen.pictures.not_finite)
    if not len(bad):
        return []
    return [
        Finding(
            "data.finite",
            "fail",
            f"NaN or infinite values in {_count(len(bad), 'picture')}",
            "One such value makes the loss NaN, and with the next step every weight.",
            seen.name,
            {"pictures": len(bad), "values": int(seen.pictures.not_finite.sum()), "healthy": 0} | seen.places(bad),
            "Look for a division by a standard deviation of zero, or a damaged file.",
        )
    ]


def constant(seen: Seen) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pictures `(n,)` have one value everywhere in each channel?"""
    with np.errstate(invalid="ignore"):
        return np.asarray((seen.pictures.low == seen.pictures.high).all(1))


def _constant(seen: Seen) -> list[Finding]:
    flat = np.flatnonzero(constant(seen))
    if not len(flat):
        return []
    share = len(flat) / len(seen)
    many = share > _CONSTANT_SHARE
    return [
        Finding(
            "data.constant",
            "fail" if share > 0.5 else "warn" if many else "note",
            f"{_count(len(flat), 'picture')} of one colour",
            "Nothing can be learned from a picture that shows nothing.",
            seen.name,
            {"pictures": len(flat), "share": round(share, 4), "healthy": 0} | seen.places(flat),
            "Open the files; a reader that fails silently, or a crop beside the picture, does this.",
        )
    ]


def _range(seen: Seen, stated: Stated | None, numbers: dict[str, Any]) -> list[Finding]:
    if all(dtype.startswith(("uint", "int", "bool")) for dtype in seen.dtypes):
        return []  # said already
    mean, std, low, high = statistics(seen)
    wrong = norms.mistake(low, high, mean, std, stated)
    if wrong is not None and len(seen) >= (_FEW if wrong.name == norms.FORGOTTEN else 1):
        scale = wrong.name in (norms.unscaled(1).name, norms.shrunk(1).name)
        return [
            Finding(
                "data.range" if scale else "data.normalization",
                "fail",
                f"Wrong values: {wrong.name}",
                f"They run from {_span(low, high)}; right would be {_expected(stated, len(low))}.",
                seen.name,
                numbers | {"healthy": _expected(stated, len(low))},
                wrong.remedy,
            )
        ]
    beyond = 0.0 if stated is None else norms.recipe("", *stated, len(low)).beyond(low, high)
    if beyond > norms.OUTSIDE:
        return [
            Finding(
                "data.normalization",
                "warn" if beyond > _FAR else "note",
                "Values outside of what the stated normalisation can give",
                f"They run from {low.min():.4g} to {high.max():.4g}. Noise that is added after normalising does this, "
                "and so do other numbers in the pipeline.",
                seen.name,
                numbers | {"healthy": _expected(stated, len(low))},
                "Check mean and standard deviation in the pipeline, and what comes after them.",
            )
        ]
    if np.abs(mean).max() > _LARGE or std.max() > _LARGE or std.max() < _FLAT:
        return [
            Finding(
                "data.range",
                "warn",
                "Values of an unusual size",
                f"Mean {mean.mean():.4g}, standard deviation {std.mean():.4g}.",
                seen.name,
                numbers | {"healthy": f"|mean| and std up to {_LARGE:g}, std at least {_FLAT:g}"},
                "Scale pictures to [0, 1], then normalise them.",
            )
        ]
    return []


def _expected(stated: Stated | None, channels: int) -> str:
    if stated is None:
        return "0 to 1, or near 0 with a spread near 1"
    return _span(*norms.recipe("", *stated, channels).bounds)


def _span(low: Values, high: Values) -> str:
    """ "-2.12, -2.04, -1.8 to 2.25, 2.43, 2.64"; one number for all channels where they agree."""
    ends = [list(dict.fromkeys(f"{value:.3g}" for value in end)) for end in (low, high)]
    return " to ".join(", ".join(end) for end in ends)


def _order(seen: Seen, stated: Stated | None) -> list[Finding]:
    """Blue before red, told by means that fit the stated ones in reverse."""
    mean, _, low, high = statistics(seen)
    if stated is None or len(mean) != 3:
        return []
    own = norms.recipe("stated", *stated, 3)
    if not own.holds(low, high):
        return []
    pixel = mean * own.std + own.mean
    straight, turned = np.abs(pixel - own.mean).max(), np.abs(pixel[::-1] - own.mean).max()
    near, ratio = _ORDER
    if turned > near or straight < max(ratio * turned, near):
        return []
    return [
        Finding(
            "data.channel_order",
            "warn",
            "The channels seem to be in the order blue, green, red",
            "Their means fit the stated ones in reverse.",
            seen.name,
            {"pixel_mean": pixel.round(3).tolist(), "stated_mean": own.mean.tolist()},
            "OpenCV reads blue first: `cv2.cvtColor(image, cv2.COLOR_BGR2RGB)`.",
        )
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
