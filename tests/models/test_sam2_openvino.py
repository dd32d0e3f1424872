"""SAM 2.1's encoder in OpenVINO beside torch's, on a small random checkpoint."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_usgseg.core.errors import ModelError
from napari_usgseg.core.types import Prompts
from napari_usgseg.io.outputs import CACHE_VARIABLE
from napari_usgseg.models.registry import (
    OPENVINO,
    SEGMENTERS,
    list_models,
    load_segmenter,
    verify_models,
)
from napari_usgseg.models.sam import openvino as sam2_openvino
from napari_usgseg.models.sam import sam2
from napari_usgseg.models.sam.nano import NanoSam
from napari_usgseg.models.sam.openvino import (
    TOLERANCE,
    Conversions,
    relative_error,
    with_openvino,
)
from napari_usgseg.models.sam.sam import SamSegmenter

TINY = "sam2.1-hiera-tiny"
SIDE = 256
CLICK = Prompts(np.array([[60.0, 40.0]], np.float32), np.ones(1, np.int32))


def scan(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (90, 140, 3), np.uint8)


@pytest.fixture(scope="module")
def small():
    """SAM 2.1 tiny sees 256 pixels here, so that an encoding takes a sixteenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        whole = sam2.build_sam2
        patch.setattr(sam2, "build_sam2", lambda variant, _=None: whole(variant, SIDE))
        yield sam2.build_sam2


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory) -> Path:
    """Random weights in the official format; positions and biases are not left at zero."""
    torch.manual_seed(0)
    model = small(sam2.SAM2_VARIANTS[TINY])
    for name, parameter in model.named_parameters():
        if "pos_embed" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("sam2") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def plain(small, checkpoint):
    return load_segmenter(checkpoint)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache_variable(cache, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))


@pytest.fixture(scope="module")
def converted(small, checkpoint, cache):
    """Loaded as a person does it, by the file's name."""
    pytest.importorskip("openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        return load_segmenter(f"{checkpoint}{OPENVINO}")


@pytest.fixture
def no_conversion(monkeypatch):
    """Whoever converts now, fails."""

    def refuse(net):
        raise AssertionError("it was converted again")

    monkeypatch.setattr(sam2_openvino, "convert", refuse)


def assert_same_embedding(one, other):
    assert one.features.keys() == other.features.keys()
    for name, tensor in other.features.items():
        assert one.features[name].dtype == tensor.dtype == torch.float32
        assert one.features[name].shape == tensor.shape
        assert relative_error(one.features[name], tensor) < 1e-4


def test_the_embedding_is_torchs_and_carries_the_same_model(plain, converted):
    theirs, ours = plain.embed(scan(0), "a"), converted.embed(scan(0), "a")
    assert_same_embedding(ours, theirs)
    assert ours.model_id == theirs.model_id == plain.model_id
    assert ours.size_hw == theirs.size_hw


def test_another_image_has_another_embedding(converted):
    one, other = (converted.embed(scan(seed)).features["image_embed"] for seed in (0, 1))
    assert relative_error(one, other) > 100 * TOLERANCE


def test_a_click_on_it_gives_torchs_mask_in_both_directions(plain, converted):
    """An embedding of either is the other's, so the cache on disk serves both."""
    theirs, ours = plain.embed(scan(0)), converted.embed(scan(0))
    expected = plain.predict(theirs, CLICK, multimask=True)
    for segmenter, embedding in ((converted, ours), (converted, theirs), (plain, ours)):
        found = segmenter.predict(embedding, CLICK, multimask=True)
        np.testing.assert_allclose(found.low_res_logits, expected.low_res_logits, atol=1e-3)
        assert (found.masks == expected.masks).mean() > 0.999


def test_two_threads_do_not_mix_their_images(converted):
    images = [scan(seed) for seed in range(8)]
    alone = [converted.embed(image) for image in images]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(converted.embed, images))
    for one, other in zip(together, alone, strict=True):
        assert_same_embedding(one, other)


def test_an_embedding_is_not_overwritten_by_the_next(converted):
    first = converted.embed(scan(0))
    kept = first.features["image_embed"].clone()
    converted.embed(scan(1))
    assert torch.equal(first.features["image_embed"], kept)


def test_the_second_time_the_kept_conversion_is_used(plain, converted, checkpoint, no_conversion):
    again = load_segmenter(f"{checkpoint}{OPENVINO}")
    assert_same_embedding(again.embed(scan(2)), plain.embed(scan(2)))


def test_another_process_uses_it_too(converted, checkpoint, plain, tmp_path):
    code = (
        "import sys, numpy as np;"
        "from napari_usgseg.models.sam import openvino, sam2;"
        "whole = sam2.build_sam2;"
        f"sam2.build_sam2 = lambda variant, _=None: whole(variant, {SIDE});"
        "openvino.convert = None;"
        "from napari_usgseg.models.registry import load_segmenter;"
        "image = np.load(sys.argv[2]);"
        "np.save(sys.argv[3], load_segmenter(sys.argv[1]).embed(image).features['image_embed']);"
        "assert sys.modules['openvino_telemetry'] is None, 'openvino could report its use'"
    )
    np.save(tmp_path / "in.npy", scan(3))
    arguments = [f"{checkpoint}{OPENVINO}", str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    assert relative_error(found, plain.embed(scan(3)).features["image_embed"]) < 1e-4


@pytest.mark.parametrize("file", ["encoder.bin", "encoder.xml"])
def test_a_torn_conversion_is_made_anew(plain, converted, checkpoint, cache, tmp_path, file):
    shutil.copytree(cache / "converted", tmp_path, dirs_exist_ok=True)
    conversions = Conversions(tmp_path)
    (torn,) = tmp_path.rglob(file)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    again = with_openvino(sam2.load_sam2_checkpoint(checkpoint), conversions)
    assert_same_embedding(again.embed(scan(4)), plain.embed(scan(4)))
    assert conversions.get(torn.parent.name) == torn.parent
    assert [path.name for path in tmp_path.iterdir()] == [torn.parent.name]


def test_other_weights_have_another_conversion(converted, checkpoint, cache, tmp_path):
    conversions = Conversions(tmp_path / "cache")
    shutil.copytree(cache / "converted", conversions.folder)
    state = torch.load(checkpoint)["model"]
    state["image_encoder.trunk.patch_embed.proj.weight"] *= 2
    torch.save({"model": state}, tmp_path / "other.pt")
    other = with_openvino(sam2.load_sam2_checkpoint(tmp_path / "other.pt"), conversions)
    assert len(list(conversions.folder.iterdir())) == 2
    expected = sam2.load_sam2_checkpoint(tmp_path / "other.pt").embed(scan(0))
    assert_same_embedding(other.embed(scan(0)), expected)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(plain, checkpoint, tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(RuntimeWarning, match=f"could not be kept.*{CACHE_VARIABLE}"):
        segmenter = with_openvino(
            sam2.load_sam2_checkpoint(checkpoint), Conversions(tmp_path / "file" / "cache")
        )
    assert_same_embedding(segmenter.embed(scan(0)), plain.embed(scan(0)))


def test_a_conversion_that_computes_something_else_is_refused_and_not_kept(
    converted, checkpoint, tmp_path, monkeypatch
):
    honest = sam2_openvino.convert

    def wrong(net):
        graph = honest(net)
        with torch.no_grad():
            net.sam.no_mem_embed.add_(1.0)
        return graph

    monkeypatch.setattr(sam2_openvino, "convert", wrong)
    with pytest.raises(ModelError, match=r"other embeddings than torch.*without @openvino"):
        with_openvino(sam2.load_sam2_checkpoint(checkpoint), Conversions(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_openvino_cannot_convert_is_an_error_with_the_cure(checkpoint, tmp_path, monkeypatch):
    openvino = pytest.importorskip("openvino")

    def stumble(*args, **kwargs):
        raise RuntimeError("No conversion rule for aten::new")

    monkeypatch.setattr(openvino, "convert_model", stumble)
    with pytest.raises(ModelError, match=r"cannot convert.*aten::new.*without @openvino"):
        with_openvino(sam2.load_sam2_checkpoint(checkpoint), Conversions(tmp_path))


class _Blocker:
    """As if OpenVINO were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openvino":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def test_without_the_extra_the_error_names_it(checkpoint, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Blocker(), *sys.meta_path])
    with pytest.raises(ModelError, match=r"pip install 'napari-usgseg\[openvino\]'"):
        load_segmenter(f"{checkpoint}{OPENVINO}")


def test_without_the_extra_no_such_model_is_offered():
    code = (
        "import sys; sys.modules['openvino'] = None;"
        "from napari_usgseg.models.registry import list_models;"
        "print([info.name for info in list_models() if '@' in info.name])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_with_the_extra_every_sam_2_is_offered_and_its_file_is_verified_once():
    pytest.importorskip("openvino")
    offered = {name for name in SEGMENTERS if name.endswith(OPENVINO)}
    assert offered == {f"{name}{OPENVINO}" for name in sam2.SAM2_VARIANTS}
    assert {info.repo for info in list_models() if info.name in offered} == {
        f"facebook/{name}" for name in sam2.SAM2_VARIANTS
    }
    assert not any(info.name in offered for info, _, _ in verify_models())


def test_only_sam_2_and_only_the_cpu(checkpoint):
    pytest.importorskip("openvino")
    with pytest.raises(ModelError, match=r"CPU only.*on cuda"):
        load_segmenter(f"{checkpoint}{OPENVINO}", device="cuda")
    with pytest.raises(ModelError, match=r"only SAM 2\.1"):
        with_openvino(SamSegmenter(NanoSam(64), "nano-random"))
