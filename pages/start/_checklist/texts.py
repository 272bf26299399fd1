"""How verdicts look in words and signs."""

from __future__ import annotations

ICONS = {
    "pass": ":green[:material/check_circle:]",
    "warn": ":orange[:material/warning:]",
    "fail": ":red[:material/cancel:]",
    "not_run": ":gray[:material/radio_button_unchecked:]",
}


def escaped(text: str) -> str:
    """Text of the user's own, such as layer names, that must not be taken for Markdown."""
    return text.replace("_", "\\_").replace("*", "\\*").replace("[", "\\[").replace("$", "\\$").replace("~", "\\~")
