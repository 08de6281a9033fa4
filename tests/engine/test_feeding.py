"""Ray Data feeds patches: the right ones, in the order asked for, to the right worker."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lhs.engine.feeding import PatchFeed, in_background
from lhs.engine.targets import TargetReader, target_stage
from lhs.training.patches import cut_patches
from tests.engine.conftest import stage, tiny

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def samples(prepared: SimpleNamespace) -> SimpleNamespace:
    histograms = stage(prepared.stages, "histograms")
    result = target_stage(
        prepared.stages, prepared.config, prepared.scenes, histograms, prepared.hierarchy
    )
    reader = TargetReader(prepared.stages.storage, f"{result.path}/rows")
    return SimpleNamespace(reader=reader, scenes=prepared.scenes.split("train"))


def feed(samples: SimpleNamespace, rank: int = 0, world_size: int = 1, **more: object) -> PatchFeed:
    config = tiny("unused", train__batch_size=6, **more)
    ids = [scene.id for scene in samples.scenes]
    return PatchFeed(config, ids, samples.reader, rank, world_size)


def shares(fed: PatchFeed, count: int, epoch: int = 0, first: int = 0) -> list:
    batches = fed.batches(epoch, first)
    taken = [share[0] for share in itertools.islice(batches, count)]
    batches.close()
    return taken


def test_patches_are_those_of_their_rows(samples: SimpleNamespace) -> None:
    for batch in shares(feed(samples), 3):
        assert batch.images.shape == (6, 3, 227, 227)
        assert batch.images.dtype == torch.uint8
        rows = [samples.reader(number, number + 1) for number in batch.ids.tolist()]
        expected = cut_patches(
            [samples.scenes[int(row.images[0])] for row in rows],
            np.concatenate([row.variants for row in rows]),
            np.array([[row.y[0], row.x[0]] for row in rows]),
            side=227,
            seed=0,
        )
        np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), expected)
        assert batch.labels.flatten().tolist() == [int(row.labels[0]) for row in rows]
        assert batch.subclasses.flatten().tolist() == [int(row.subclasses[0]) for row in rows]
        assert batch.labels.shape == (6, 1, 1)


def test_an_epoch_goes_on_from_any_batch_and_over_pipelines(
    samples: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [batch.ids.tolist() for batch in shares(feed(samples), 7)]
    monkeypatch.setattr("lhs.engine.feeding.CHUNK_BYTES", 2 * 6 * 3 * 227**2)
    assert [batch.ids.tolist() for batch in shares(feed(samples), 7)] == whole
    assert [batch.ids.tolist() for batch in shares(feed(samples), 3, first=4)] == whole[4:]
    assert [batch.ids.tolist() for batch in shares(feed(samples), 3, epoch=1)] != whole[:3]


def test_workers_share_each_batch_without_overlap(samples: SimpleNamespace) -> None:
    whole = [batch.ids.tolist() for batch in shares(feed(samples), 3)]
    parts = [[b.ids.tolist() for b in shares(feed(samples, rank, 2), 3)] for rank in range(2)]
    for step, ids in enumerate(whole):
        assert parts[0][step] == ids[0::2]
        assert parts[1][step] == ids[1::2]


def test_owned_labels_are_those_of_the_global_batches(samples: SimpleNamespace) -> None:
    whole = [batch.ids.tolist() for batch in shares(feed(samples), 4)]
    for step, ids in enumerate(whole):
        own = []
        for rank in range(3):
            (batch,) = next(itertools.islice(feed(samples, rank, 3).owned_labels(0, 0), step, None))
            assert all(number % 3 == rank for number in batch.ids.tolist())
            assert len(batch.images) == len(batch.labels)
            own += batch.ids.tolist()
        assert sorted(own) == sorted(ids)


def test_owned_brings_own_samples_image_after_image(samples: SimpleNamespace) -> None:
    fed = feed(samples, 1, 20)
    batches = list(fed.owned())
    ids = np.concatenate([batch.ids.numpy() for batch in batches])
    assert sorted(ids.tolist()) == list(range(1, samples.reader.total, 20))
    rows = samples.reader(0, samples.reader.total)
    images = rows.images[ids].tolist()
    assert len(list(itertools.groupby(images))) == len(set(images))
    assert max(len(batch.ids) for batch in batches) <= 6


def test_balanced_batches_repeat_rare_classes(samples: SimpleNamespace) -> None:
    fed = feed(samples, train__sampling="balanced")
    drawn = np.concatenate([batch.labels.flatten() for (batch,) in fed.owned_labels(0, 0)])
    plain = np.bincount(samples.reader(0, samples.reader.total).labels)
    present = np.flatnonzero(plain)
    share = np.bincount(drawn, minlength=len(plain))[present] / len(drawn)
    np.testing.assert_allclose(share, 1 / len(present), atol=0.06)


def test_what_fails_while_cutting_reaches_the_trainer() -> None:
    def batches():
        yield ["one"]
        raise ValueError("broken")

    background = in_background(batches(), 1)
    assert next(background) == ["one"]
    with pytest.raises(ValueError, match="broken"):
        next(background)
