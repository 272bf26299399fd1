"""The bundled pictures are what their list says, and the demo model knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featviz_core.demo.samples import SAMPLES, Sample, write_samples
from featviz_core.demo.shapes import CLASS_NAMES, SIZE
from featviz_core.demo.train import load, predict


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.slug)
def test_the_file_is_the_record_drawn_again(sample: Sample) -> None:
    record = sample.record()
    with Image.open(sample.path) as image:
        stored = np.asarray(image.convert("RGB")).astype(int)
    # Another processor may round a few values the other way.
    assert np.abs(stored - record.image).max() <= 1 and (stored != record.image).mean() < 0.001
    assert CLASS_NAMES[record.label] == sample.label
    assert record.masks.shape == (len(record.labels), *record.image.shape[:2])
    sizes = record.masks.sum(axis=(1, 2)).tolist()
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] > 0
    assert sample.path.stat().st_size < 250_000


def test_there_is_one_for_each_class_two_pairs_and_a_larger_picture() -> None:
    records = [sample.record() for sample in SAMPLES]
    single = {sample.label for sample, record in zip(SAMPLES, records, strict=True) if len(record.labels) == 1}
    assert single == set(CLASS_NAMES)
    assert sum(record.two_objects for record in records) == 2
    assert any(record.image.shape == (2 * SIZE, 3 * SIZE, 3) for record in records)
    assert len({sample.slug for sample in SAMPLES}) == len({sample.title for sample in SAMPLES}) == len(SAMPLES)


def test_the_demo_model_recognises_every_small_sample() -> None:
    small = [sample for sample in SAMPLES if sample.indices == (sample.indices[0][:1],)]
    images = np.stack([sample.record().image for sample in small])
    chosen = predict("shapes_cnn", load("shapes_cnn"), images)
    assert [CLASS_NAMES[number] for number in chosen] == [sample.label for sample in small]


def test_writing_makes_all_files(tmp_path: Path) -> None:
    write_samples(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(sample.path.name for sample in SAMPLES)
