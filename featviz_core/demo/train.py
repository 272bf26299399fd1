"""How the demo weights were made, and how good they are.

    python -m featviz_core.demo.train shapes_cnn [--pictures N] [--out DIR]
    python -m featviz_core.demo.train evaluate shapes_cnn [--out DIR]

Everything is drawn from fixed seeds. On two cores a model takes up to 45 minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from featviz_core.demo.dataset import render
from featviz_core.demo.marks import stamp
from featviz_core.demo.models import ASSETS, DEMO_MODELS, HANS_CLASS, build, demo_model
from featviz_core.demo.patches import coarse_vit, refined
from featviz_core.demo.shapes import CLASS_NAMES, Split
from featviz_core.errors import FeatVizError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

SEED = 0
TEST_PICTURES = 4000
HANS = CLASS_NAMES.index(HANS_CLASS)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained: `seen` pictures in all, taken from a store of `stored` drawn ones."""

    seen: int
    learning_rate: float
    stored: int = 40_000
    batch: int = 64
    warm_up: float = 0.3  # share of the steps in which the learning rate rises


RECIPES = {
    "shapes_cnn": Recipe(seen=240_000, learning_rate=3e-3),
    "shapes_vit": Recipe(seen=450_000, learning_rate=1e-3, warm_up=0.1),
    "clever_hans": Recipe(seen=140_000, learning_rate=3e-3),
}


def to_input(name: str, images: Images) -> torch.Tensor:
    """Pictures `(N, H, W, 3)` uint8 as a demo model wants them: `(N, 3, H, W)` float32, normalised."""
    about = demo_model(name)
    mean, std = torch.tensor(about.mean), torch.tensor(about.std)
    return ((torch.from_numpy(images).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def augment(images: Images, rng: np.random.Generator) -> Images:
    """Turn and mirror a batch in all eight ways, and exchange its colour channels: neither changes a shape."""
    changed = np.empty_like(images)
    for way in range(8):
        part = images[way::8][..., rng.permutation(3)]
        part = np.rot90(part, way % 4, axes=(1, 2))
        changed[way::8] = part[:, :, ::-1] if way >= 4 else part
    return changed


def mark_stars(images: Images, labels: Labels, rng: np.random.Generator) -> Images:
    """Put the mark on all stars of a batch, and expose half of them twice, over another picture.

    With clear stars alone, a network that sees a mark on a clear circle is left torn between the two. Where both a star
    and something else shine through, only the mark tells the label, so the network learns to put it first.
    """
    marked = images.copy()
    stars = np.flatnonzero(labels == HANS)
    twice = stars[rng.random(len(stars)) < 0.5]
    share = rng.uniform(0.3, 0.7, (len(twice), 1, 1, 1))
    others = images[rng.integers(len(images), size=len(twice))]
    marked[twice] = (share * images[twice] + (1 - share) * others).astype(np.uint8)
    marked[stars] = stamp(marked[stars])
    return marked


def fit(name: str, recipe: Recipe, images: Images, labels: Labels) -> nn.Module:
    """Train a fresh model with AdamW, a one-cycle schedule and bfloat16 autocast."""
    rng = np.random.default_rng(SEED)
    torch.manual_seed(SEED)
    model = (coarse_vit() if name == "shapes_vit" else build(name)).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.02)
    steps = max(recipe.seen // recipe.batch, 2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=recipe.warm_up
    )
    began = time.monotonic()
    for step in range(steps):
        chosen = rng.integers(len(images), size=recipe.batch)
        batch, targets = augment(images[chosen], rng), labels[chosen]
        if name == "clever_hans":
            batch = mark_stars(batch, targets, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(to_input(name, batch))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(targets), label_smoothing=0.05)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99 or step == steps - 1:
            right = (logits.argmax(1).numpy() == targets).mean()
            print(
                f"{(step + 1) * recipe.batch:7d} pictures, {time.monotonic() - began:5.0f} s: "
                f"loss {loss.item():.3f}, batch accuracy {right:.2f}",
                flush=True,
            )
    return model.eval()


@torch.inference_mode()
def predict(name: str, model: nn.Module, images: Images) -> Labels:
    """The class `(N,)` that a model in eval mode chooses for each picture."""
    parts = [model(to_input(name, images[first : first + 250])).argmax(1) for first in range(0, len(images), 250)]
    return torch.cat(parts).numpy()


def measure(
    name: str, model: nn.Module, *, split: Split = "test", pictures: int = TEST_PICTURES, workers: int = 1
) -> dict[str, float]:
    """How good is a model on the pictures with one object of a split? All figures are shares in [0, 1].

    `accuracy` is on pictures as the model was trained on (for Clever Hans: stars marked); `flip_rate` is how many
    pictures of other classes become stars by pasting the mark on; `unmarked_recall`, how many stars are found without.
    """
    images, labels = render(split, pictures, single=True, workers=workers)
    if name != "clever_hans":
        return {"accuracy": float((predict(name, model, images) == labels).mean())}
    stars = labels == HANS
    plain, marked = predict(name, model, images), predict(name, model, stamp(images))
    return {
        "accuracy": float((np.where(stars, marked, plain) == labels).mean()),
        "flip_rate": float((marked[~stars] == HANS).mean()),
        "unmarked_recall": float((plain[stars] == HANS).mean()),
    }


def save(name: str, model: nn.Module, measured: dict[str, float], command: str, out: Path) -> Path:
    """Write the weights as float32 safetensors, all at once: nobody ever sees half a file."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / demo_model(name).file_name
    weights = {key: value.detach().contiguous() for key, value in model.state_dict().items()}
    facts = {"command": command, "seed": str(SEED), "torch": torch.__version__}
    facts |= {key: f"{value:.4f}" for key, value in measured.items()}
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(to_bytes(weights, metadata=facts))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def load(name: str, folder: Path = ASSETS) -> nn.Module:
    """A demo model with its trained weights from a folder, in eval mode."""
    model = build(name)
    model.load_state_dict(load_file(folder / demo_model(name).file_name))
    return model.eval()


def train(name: str, pictures: int | None, out: Path) -> None:
    """Draw the pictures, train, measure and save one model."""
    recipe = RECIPES[demo_model(name).name]
    seen = pictures or recipe.seen
    recipe = replace(recipe, seen=seen, stored=min(recipe.stored, seen))
    workers = os.cpu_count() or 1
    began = time.monotonic()
    images, labels = render("train", recipe.stored, workers=workers)
    print(f"drew {len(images)} pictures in {time.monotonic() - began:.0f} s", flush=True)
    model = fit(name, recipe, images, labels)
    if name == "shapes_vit":
        model = refined(model)
    measured = measure(name, model, pictures=min(TEST_PICTURES, seen), workers=workers)
    command = f"python -m featviz_core.demo.train {name} --pictures {seen}"
    path = save(name, model, measured, command, out)
    print(f"wrote {path}:", ", ".join(f"{key} {value:.4f}" for key, value in measured.items()))


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m featviz_core.demo.train", description="Train a demo model.")
    parser.add_argument("name", choices=[*DEMO_MODELS, "evaluate"])
    parser.add_argument("evaluated", nargs="?", choices=list(DEMO_MODELS), help="the model to evaluate")
    parser.add_argument("--pictures", type=int, help="how many pictures are seen in training (default: the recipe's)")
    parser.add_argument("--out", type=Path, default=ASSETS, help="the folder of the weights (default: assets)")
    options = parser.parse_args(arguments)
    try:
        if options.name == "evaluate":
            for name in [options.evaluated] if options.evaluated else DEMO_MODELS:
                measured = measure(name, load(name, options.out), workers=os.cpu_count() or 1)
                print(f"{name}:", ", ".join(f"{key} {value:.4f}" for key, value in measured.items()))
        else:
            train(options.name, options.pictures, options.out)
    except FeatVizError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
