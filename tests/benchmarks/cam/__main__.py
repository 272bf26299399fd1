"""How fast are class activation maps, beside grad-cam, torchcam and captum? `python -m tests.benchmarks.cam`

    [--model resnet18] [--repeats 5] [--threads 1 2] [--slow]

Each row is the median of several runs on one 224×224 picture; the figures are milliseconds, and in brackets times a
bare forward pass without gradients. Peak memory is what the process gained at most, measured in a process of its
own for each row. `--slow` adds the rows that take minutes (the peers' Ablation-CAM, SS-CAM and IS-CAM).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import torch

import featviz_core as fv
from featviz_core.models import LoadedModel

TARGET = 1
SIZE = 224
GRAD_CAM = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
    "layercam": "LayerCAM",
    "eigencam": "EigenCAM",
    "eigengradcam": "EigenGradCAM",
    "fem": "FEM",
    "fullgrad": "FullGrad",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
TORCHCAM = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMpp",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "smooth_gradcam++": "SmoothGradCAMpp",
    "scorecam": "ScoreCAM",
    "cam": "CAM",
}
QUICK = tuple(name for name in (*GRAD_CAM, "smooth_gradcam++", "cam") if name not in ("scorecam", "ablationcam"))
LONG = ("scorecam", "ablationcam")  # run once each


def featviz(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    fv.class_activation(model, image, target=TARGET, method=method, layer=layer)


def grad_cam(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = model.module
    target = module.get_submodule(layer or fv.default_layer(model, tuple(image.shape[1:])))
    with getattr(pytorch_grad_cam, GRAD_CAM[method])(module, [target]) as cam:
        cam(image, [ClassifierOutputTarget(TARGET)])


def torchcam(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    from torchcam import methods

    layer = layer or fv.default_layer(model, tuple(image.shape[1:]))
    gradients = contextlib.nullcontext() if method not in ("scorecam", "cam") else torch.no_grad()
    with getattr(methods, TORCHCAM[method])(model.module, layer) as extract, gradients:
        extract(TARGET, model.module(image))


def captum(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    from captum.attr import LayerGradCam

    target = model.module.get_submodule(layer or fv.default_layer(model, tuple(image.shape[1:])))
    LayerGradCam(model.module, target).attribute(image, TARGET)


def bare(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    with torch.no_grad():
        model.module(image)


def grid(model: LoadedModel, image: torch.Tensor, method: str, layer: str | None) -> None:
    """Maps for all stages and five classes."""
    stages = ["layer1", "layer2", "layer3", "layer4"]
    fv.class_activations(model, image, layers=stages, targets=[1, 2, 3, 4, 5], methods=[method])


WAYS = {run.__name__: run for run in (bare, featviz, grad_cam, torchcam, captum, grid)}


def peers_of(method: str) -> Iterator[str]:
    yield "featviz"
    yield from ["grad_cam"] if method in GRAD_CAM else []
    yield from ["torchcam"] if method in TORCHCAM else []
    yield from ["captum"] if method == "gradcam" else []


def timed(run: Callable[[], None], repeats: int) -> float:
    """Median milliseconds, after one run that does not count where there are several."""
    spent = []
    for _ in range(repeats + (repeats > 1)):
        start = time.perf_counter()
        run()
        spent.append((time.perf_counter() - start) * 1000)
    return statistics.median(spent[repeats > 1 :])


def prepared(name: str) -> tuple[LoadedModel, torch.Tensor]:
    from tests.woken import wake, waking_pictures

    model = fv.load_model(name)
    wake(model.module, 64)
    return model, waking_pictures(1, SIZE)


def one(name: str, way: str, method: str, layer: str | None, repeats: int, threads: int) -> None:
    """The measuring process: prints milliseconds and the memory gained, in MiB."""
    torch.set_num_threads(threads)
    model, image = prepared(name)
    bare(model, image, "", None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        spent = timed(lambda: WAYS[way](model, image, method, layer), repeats)
        forward = timed(lambda: bare(model, image, "", None), 9)
    gained = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps([spent, forward, gained]))


def measure(name: str, way: str, method: str, layer: str | None, repeats: int, threads: int) -> str:
    job = json.dumps([name, way, method, layer, repeats, threads])
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.cam", "--one", job], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:60]}"
    spent, forward, gained = json.loads(done.stdout.splitlines()[-1])
    return f"{spent:10.1f} ms ({spent / forward:7.2f} forwards) {gained:6.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--methods", nargs="+", default=[*QUICK, *LONG])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(*json.loads(options.one))
        return
    rows: list[tuple[str, str | None, str]] = []
    for method in options.methods:
        skipped = "grad_cam" if method == "ablationcam" and not options.slow else ""
        rows += [(method, None, way) for way in peers_of(method) if way != skipped]
    rows += [("ablationcam", "layer2", way) for way in ("featviz", *(["grad_cam"] if options.slow else []))]
    rows.append(("gradcam", None, "grid"))
    for threads in options.threads:
        print(f"\n{options.model}, {SIZE}×{SIZE}, {threads} thread{'s' if threads > 1 else ''}")
        for method, layer, way in rows:
            repeats = 1 if method in LONG else options.repeats
            figures = measure(options.model, way, method, layer, repeats, threads)
            print(f"{method:20} {layer or 'default':8} {way:9} {figures}", flush=True)


if __name__ == "__main__":
    main()
