"""What a technique says about itself: everything the menu, the home page and the README need, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """A technique's card.

    `slug` names its folder, page, URL and test; `question` is what a user asks that it answers; `symptoms` are the
    situations in which to open it; `how_to_read` are short paragraphs (Markdown) on healthy and unhealthy looks;
    `references` are papers as (citation, URL).
    """

    slug: str
    title: str
    question: str
    icon: str
    symptoms: tuple[str, ...]
    how_to_read: tuple[str, ...]
    references: tuple[tuple[str, str], ...] = ()
