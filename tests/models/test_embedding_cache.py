from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_usgseg.core.metrics import iou
from napari_usgseg.core.types import ImageEmbedding, Prompts
from napari_usgseg.io.images import content_key
from napari_usgseg.models.embedding_cache import (
    ABANDONED_SECONDS,
    CachePlace,
    CacheWriter,
    EmbeddingCache,
    decode,
    encode,
)
from napari_usgseg.phantoms.phantom import make_phantom

KILOBYTE = 1024


def small(key: str, model_id: str = "model-1", kilobytes: int = 1, value: float = 1.0):
    features = {"image_embed": torch.full((1, 1, kilobytes, KILOBYTE // 2), value)}
    return ImageEmbedding(key, model_id, (7, 9), features)


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(CachePlace(tmp_path / "cache"))


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, (240, 320))


@pytest.fixture(scope="module")
def fresh(nano_segmenter, phantom):
    return nano_segmenter.embed(phantom.image, content_key(phantom.image))


def clicks(phantom) -> list[Prompts]:
    rows, columns = np.nonzero(phantom.labels)
    some = np.linspace(0, len(rows) - 1, 6).astype(int)
    points = np.stack([columns[some], rows[some]], 1).astype(np.float32)
    box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float32)
    single = [Prompts(point[None], np.ones(1, np.int32)) for point in points]
    return [*single, Prompts(box=box), Prompts(points, np.ones(6, np.int32), box)]


def test_masks_from_a_kept_embedding_are_those_from_a_fresh_one(
    cache, nano_segmenter, phantom, fresh
):
    assert cache.put(fresh)
    kept = cache.get(fresh.image_id, fresh.model_id)
    assert kept is not None
    assert kept.size_hw == fresh.size_hw
    for name, tensor in fresh.features.items():
        assert kept.features[name].dtype == torch.float32
        assert torch.allclose(kept.features[name], tensor, rtol=1e-3, atol=1e-4)
    for prompts in clicks(phantom):
        ours = nano_segmenter.predict(kept, prompts).masks[0]
        theirs = nano_segmenter.predict(fresh, prompts).masks[0]
        assert iou(ours, theirs) > 0.99


def test_an_embedding_takes_half_of_what_it_takes_in_memory(cache, fresh):
    cache.put(fresh)
    whole = sum(tensor.nbytes for tensor in fresh.features.values())
    assert cache.size_bytes() < 0.51 * whole + 4 * KILOBYTE


def test_an_image_or_a_model_that_was_never_kept_gives_nothing(cache):
    cache.put(small("a"))
    assert cache.get("b", "model-1") is None
    assert cache.get("a", "model-2") is None


def test_the_key_is_of_the_pixels_and_of_the_shape():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert content_key(image) == content_key(image.copy())
    assert content_key(image) == content_key(np.asfortranarray(image))
    assert content_key(image) != content_key(image.reshape(4, 2, 3))
    other = image.copy()
    other[1, 3, 2] ^= 1
    assert content_key(image) != content_key(other)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 3000), flip=st.integers(0, 7))
def test_a_torn_or_damaged_file_is_never_taken_for_an_embedding(cut, flip):
    data = encode(small("a", kilobytes=2))
    at = cut % len(data)
    assert decode(data[:at], "a", "model-1") is None
    damaged = bytearray(data)
    damaged[at] ^= 1 << flip
    found = decode(bytes(damaged), "a", "model-1")
    if found is not None:  # a bit that means nothing, such as one in the padding of the header
        assert torch.equal(found.features["image_embed"], torch.ones(1, 1, 2, KILOBYTE // 2))
    zeroed = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    assert decode(zeroed, "a", "model-1") is None


def test_a_torn_file_is_removed_and_can_be_made_anew(cache):
    cache.put(small("a"))
    path = cache.path("a", "model-1")
    path.write_bytes(path.read_bytes()[:-100])
    assert cache.get("a", "model-1") is None
    assert not path.exists()
    assert cache.put(small("a"))
    assert cache.get("a", "model-1") is not None


def test_the_file_of_another_image_or_model_is_refused(cache):
    cache.put(small("a"))
    cache.put(small("b"))
    os.replace(cache.path("a", "model-1"), cache.path("b", "model-1"))
    assert cache.get("b", "model-1") is None
    odd = small("a", "model/1"), small("a", "model:1")
    assert cache.path("a", "model/1") == cache.path("a", "model:1")
    cache.put(odd[0])
    assert cache.get("a", "model:1") is None


def test_what_half_precision_cannot_hold_is_not_kept(cache):
    assert not cache.put(small("a", value=1e6))
    assert cache.get("a", "model-1") is None


def test_where_the_limit_is_passed_the_least_recently_used_goes(tmp_path):
    one = len(encode(small("a", kilobytes=100)))
    cache = EmbeddingCache(CachePlace(tmp_path, 4 * one))
    for age, key in enumerate("dcba"):
        cache.put(small(key, kilobytes=100))
        os.utime(cache.path(key, "model-1"), (1000 + age, 1000 + age))
    assert cache.get("d", "model-1") is not None, "used now, so no longer the oldest"
    cache.put(small("e", kilobytes=100))
    left = {key for key in "abcde" if cache.path(key, "model-1").exists()}
    assert left == {"a", "d", "e"}
    assert cache.size_bytes() <= 4 * one


def test_the_limit_holds_whatever_another_process_wrote_before(tmp_path):
    one = len(encode(small("a", kilobytes=100)))
    before = EmbeddingCache(CachePlace(tmp_path, 100 * one))
    for key in "abcdefgh":
        before.put(small(key, kilobytes=100))
    EmbeddingCache(CachePlace(tmp_path, 3 * one)).put(small("i", kilobytes=100))
    assert before.size_bytes() <= 3 * one


def test_an_embedding_larger_than_the_limit_is_not_kept(tmp_path):
    cache = EmbeddingCache(CachePlace(tmp_path, 50 * KILOBYTE))
    assert not cache.put(small("a", kilobytes=100))
    assert cache.size_bytes() == 0


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    cache = EmbeddingCache(CachePlace(tmp_path / "cache"))
    assert not cache.put(small("a"))
    assert cache.get("a", "model-1") is None
    assert cache.size_bytes() == 0


def test_scraps_of_a_killed_process_go_and_those_of_a_running_one_stay(tmp_path):
    cache = EmbeddingCache(CachePlace(tmp_path))
    cache.put(small("a"))
    folder = cache.path("a", "model-1").parent
    old, new = folder / ".old.tmp", folder / ".new.tmp"
    for scrap in (old, new):
        scrap.write_bytes(b"half of a")
    past = os.stat(new).st_mtime - 2 * ABANDONED_SECONDS
    os.utime(old, (past, past))
    EmbeddingCache(CachePlace(tmp_path)).put(small("b"))
    assert not old.exists()
    assert new.exists()


BOTH = """
import sys, torch
from pathlib import Path
from napari_usgseg.models.embedding_cache import CachePlace, EmbeddingCache
from napari_usgseg.core.types import ImageEmbedding
cache = EmbeddingCache(CachePlace(Path(sys.argv[1]), 40_000))
wrong = 0
for turn in range(150):
    key = f"image-{turn % 12}"
    value = float(turn % 12)
    found = cache.get(key, "model-1")
    if found is None:
        cache.put(ImageEmbedding(key, "model-1", (7, 9), {"x": torch.full((2000,), value)}))
    else:
        wrong += not bool((found.features["x"] == value).all())
print(wrong)
"""


def test_two_processes_can_use_and_clear_one_folder_at_the_same_time(tmp_path):
    running = [
        subprocess.Popen([sys.executable, "-c", BOTH, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == [b"0", b"0"]
    assert [process.returncode for process in running] == [0, 0]
    cache = EmbeddingCache(CachePlace(tmp_path))
    found = [cache.get(f"image-{n}", "model-1") for n in range(12)]
    assert any(item is not None for item in found)
    assert not list(tmp_path.rglob("*.tmp"))
    assert cache.size_bytes() <= 40_000 + 4_500, "one file over, while both look"


def test_the_writer_keeps_what_it_is_given_and_outlives_a_fault(cache, capfd):
    writer = CacheWriter()
    writer.put(cache, replace(small("a"), features={"image_embed": "no tensor"}))
    writer.put(cache, small("b"))
    writer.finish()
    assert cache.get("b", "model-1") is not None
    assert "AttributeError" in capfd.readouterr().err


def test_a_disk_that_cannot_follow_holds_nobody_up(cache):
    writer, gate = CacheWriter(), threading.Event()

    class Slow(EmbeddingCache):
        def put(self, embedding):
            gate.wait()
            return super().put(embedding)

    slow = Slow(cache.place)
    for n in range(40):
        writer.put(slow, small(f"image-{n}"))
    gate.set()
    writer.finish()
    assert 1 <= sum(cache.get(f"image-{n}", "model-1") is not None for n in range(40)) < 40


def test_a_disk_that_fails_while_the_folder_is_read_costs_nothing_else(cache, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", broken)
    monkeypatch.setattr(os, "listdir", broken)
    assert cache.put(small("a"))
    assert cache.size_bytes() == 0
    monkeypatch.undo()
    assert cache.get("a", "model-1") is not None
