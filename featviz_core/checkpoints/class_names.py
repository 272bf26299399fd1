"""Names for a model's outputs, from a text or JSON file."""

from __future__ import annotations

import json

from featviz_core.errors import CheckpointError

_MOST = 100_000
_LONGEST = 200


def read_class_names(data: bytes, *, name: str = "class names") -> tuple[str, ...]:
    """What are the classes called, in the order of the model's outputs?

    One name a line, or JSON: a list, `{"0": "tench", ...}`, ImageNet's `{"0": ["n01440764", "tench"], ...}`, or
    ImageFolder's `{"tench": 0, ...}`.
    Raises `CheckpointError` for anything else.
    """
    try:
        text = data.decode("utf-8-sig")
        found = json.loads(text) if text.lstrip().startswith(("[", "{")) else text.splitlines()
    except (ValueError, RecursionError) as error:
        raise _unreadable(name, f"Reading it ended with: {str(error)[:120]}.") from error
    if isinstance(found, list):
        found = [line.strip() if isinstance(line, str) else line for line in found]
        while found and found[-1] == "":
            found.pop()
    names = as_class_names(found)
    if not names:
        raise _unreadable(name, "It holds no list of names.")
    return names


def as_class_names(found: object) -> tuple[str, ...] | None:
    """`found` as names, where it is a list of texts or a dict from numbers to them or back; else None."""
    if isinstance(found, dict):
        if all(type(number) is int for number in found.values()):
            found = {number: name for name, number in found.items()}
        try:
            numbered = {int(str(number)): value for number, value in found.items()}
        except ValueError:
            return None
        if sorted(numbered) != list(range(len(numbered))):
            return None
        found = [numbered[number] for number in range(len(numbered))]
    if not isinstance(found, list | tuple) or not 0 < len(found) <= _MOST:
        return None
    last = [item[-1] if isinstance(item, list | tuple) and item else item for item in found]
    return tuple(item[:_LONGEST] for item in last) if all(isinstance(item, str) and item for item in last) else None


def _unreadable(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{name} cannot be read as class names.", why=why, do="Write one name a line, or a JSON list of names."
    )
