"""Diagnosis: what the curves of a training run say, in words, with the numbers and the place on the curve.

It reads what any run log holds (loss, accuracy, learning rate, updates by layer), so it works after the fact and on
other people's logs. It knows nothing of where a log comes from.
"""

from featviz_core.lazy import lazily

__all__ = ["Curve", "Curves", "curves_of", "diagnose"]
__getattr__ = lazily(__name__, {"Curve": "curves", "Curves": "curves", "curves_of": "curves", "diagnose": "rules"})
