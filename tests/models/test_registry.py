"""Models by name, by path, verified and refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from napari_usgseg.core.errors import CheckpointError, ModelError, ModelNotFoundError
from napari_usgseg.models import checkpoints
from napari_usgseg.models.checkpoints import write_checksums
from napari_usgseg.models.grounding.grounding_dino import GroundingDino
from napari_usgseg.models.registry import (
    download_model,
    list_models,
    load_detector,
    load_segmenter,
    resolve_device,
    verify_models,
)
from napari_usgseg.models.sam.nano import NanoSam, save_nano_segmenter

NANO_FILE = "nano-segmenter.safetensors"


@pytest.fixture
def no_hub(tmp_path, monkeypatch) -> Path:
    """An empty cache and no network; the cache's folder."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def weights(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the package's own weights, with a random segmenter in it."""
    folder = tmp_path / "weights"
    torch.manual_seed(0)
    save_nano_segmenter(NanoSam(64), folder / NANO_FILE, {})
    write_checksums(folder)
    monkeypatch.setattr(checkpoints, "weights_folder", lambda: folder)
    return folder


def put_into_cache(cache: Path, repo: str, name: str, content: bytes, blob: str) -> Path:
    """A file as huggingface_hub lays it down after a download."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("b" * 40)
    for part in (folder / "refs", folder / "blobs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("b" * 40)
    (folder / "blobs" / blob).write_bytes(content)
    (snapshot / name).symlink_to(Path("../../blobs") / blob)
    return snapshot / name


def test_every_model_of_the_documentation_is_listed_with_its_licence():
    listed = [info for info in list_models() if "@" not in info.name]  # those need an extra
    names = [(info.name, info.kind) for info in listed]
    assert names == [
        ("nano", "segmenter"),
        ("nano", "detector"),
        ("nano-dino", "detector"),
        *((f"sam2.1-hiera-{s}", "segmenter") for s in ("tiny", "small", "base-plus", "large")),
        ("medsam2", "segmenter"),
        ("edgetam", "segmenter"),
        ("mobile-sam", "segmenter"),
        *((f"sam-vit-{size}", "segmenter") for size in ("base", "large", "huge")),
        ("medsam-vit-base", "segmenter"),
        ("grounding-dino-tiny", "detector"),
        ("grounding-dino-base", "detector"),
        ("mm-grounding-dino-tiny", "detector"),
    ]
    assert all(info.licence for info in list_models())


def test_listing_imports_no_heavy_library():
    code = (
        "import sys; from napari_usgseg.models.registry import list_models; list_models();"
        "print([m for m in ('torch', 'transformers', 'sam2', 'timm') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_an_unknown_name_lists_the_names_and_the_nearest(no_hub):
    with pytest.raises(ModelNotFoundError, match=r"'nnano'.*mean nano\?.*sam2\.1-hiera-large"):
        load_segmenter("nnano")
    with pytest.raises(ModelNotFoundError, match=r"mean grounding-dino-tiny\?"):
        load_detector("grounding-dino-tin")
    with pytest.raises(ModelNotFoundError, match=r"mean sam2\.1-hiera-tiny\?"):
        download_model("sam2-hiera-tiny")


def test_a_segmenters_name_is_no_detectors_name():
    with pytest.raises(ModelNotFoundError, match="no detector"):
        load_detector("sam2.1-hiera-tiny")


@pytest.mark.parametrize(
    ("load", "name"),
    [(load_segmenter, "sam2.1-hiera-small"), (load_detector, "grounding-dino-base")],
)
def test_a_model_of_the_hub_without_network_says_how_to_get_it(no_hub, load, name):
    with pytest.raises(ModelNotFoundError, match=f"usgseg models download {name}"):
        load(name)


def test_the_nano_segmenter_comes_from_the_package_or_from_a_file(weights):
    embedded = load_segmenter()
    assert embedded.model_id.startswith("nano-")
    assert load_segmenter(weights / NANO_FILE).model_id == embedded.model_id


def test_a_sam_2_checkpoint_is_recognised_by_its_suffix(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"mine\.pt"):
        load_segmenter(path)


def test_a_grounding_dino_folder_is_recognised_and_takes_an_adapter(dino_folder, lora_folder):
    assert isinstance(load_detector(dino_folder), GroundingDino)
    assert "+my-organ-" in load_detector(dino_folder, adapter=lora_folder).model_id


def test_a_cached_grounding_dino_loads_by_name_without_network(no_hub, dino_folder):
    for file in sorted(dino_folder.iterdir()):
        blob = checkpoints.sha256_of(file)
        put_into_cache(
            no_hub, "IDEA-Research/grounding-dino-tiny", file.name, file.read_bytes(), blob
        )
    info = next(i for i in list_models() if i.name == "grounding-dino-tiny")
    assert info.present
    assert info.sha256 == checkpoints.sha256_of(dino_folder / "model.safetensors")
    assert load_detector("grounding-dino-tiny").model_id == f"{info.name}-{info.sha256[:8]}"


def test_a_folder_that_is_no_detector_takes_no_adapter(tmp_path, lora_folder):
    with pytest.raises(ModelError, match=r"grounder\.json"):
        load_detector(tmp_path, adapter=lora_folder)


def test_sound_embedded_weights_are_verified(weights):
    sound = {(info.name, info.kind): ok for info, ok, _ in verify_models()}
    assert sound[("nano", "segmenter")]
    assert not sound[("nano", "detector")]  # the stand-in folder has none


def test_a_changed_a_missing_and_a_foreign_file_are_found(weights):
    def state() -> tuple[bool, str]:
        return next((ok, message) for info, ok, message in verify_models() if info.name == "nano")

    path = weights / NANO_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert state() == (False, f"{NANO_FILE} differs from its checksum; reinstall napari-usgseg")
    path.unlink()
    assert state() == (False, f"{NANO_FILE} is missing; reinstall napari-usgseg")
    path.write_bytes(content)
    assert state()[0]
    (weights / "SHA256SUMS.json").write_text("{}")
    assert "no checksum" in state()[1]


def test_a_hidden_file_beside_the_weights_is_no_stranger_and_another_is(weights):
    folder = weights / "nano-grounder"
    folder.mkdir()
    (folder / "grounder.json").write_text("{}")
    write_checksums(weights)

    def state() -> tuple[bool, str]:
        found = {(info.name, info.kind): (ok, message) for info, ok, message in verify_models()}
        return found[("nano", "detector")]

    (folder / "._grounder.json").write_text("written by macOS")
    assert state() == (True, "1 of 1 files match their checksums")
    (folder / "grounder_2.json").write_text("{}")
    assert "nano-grounder/grounder_2.json is not among the checksums" in state()[1]


def test_missing_embedded_weights_are_an_error_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "weights_folder", lambda: tmp_path)
    with pytest.raises(ModelNotFoundError, match="reinstall"):
        load_segmenter()
    for detector in ("nano", "nano-dino"):
        with pytest.raises(ModelNotFoundError, match="reinstall"):
            load_detector(detector)
    with pytest.raises(ModelNotFoundError, match="reinstall"):
        download_model("nano")


def test_a_damaged_download_in_the_cache_is_found(no_hub):
    path = put_into_cache(
        no_hub, "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt", b"damaged", "c" * 64
    )
    results = {info.name: (ok, message) for info, ok, message in verify_models()}
    assert results["sam2.1-hiera-tiny"][0] is False
    assert str(path) in results["sam2.1-hiera-tiny"][1]
    assert "sam2.1-hiera-large" not in results


def test_devices_are_checked_and_auto_takes_a_gpu_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (resolve_device("cpu"), resolve_device("auto")) == ("cpu", "cpu")
    for device in ("cuda", "warp drive"):
        with pytest.raises(ModelError, match="use cpu"):
            resolve_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("auto") == "cuda"
    assert resolve_device("cuda:0") == "cuda:0"
    with pytest.raises(ModelError, match="cuda:1 is not on this machine"):
        resolve_device("cuda:1")


def test_a_folder_of_something_else_is_no_detector(tmp_path):
    (tmp_path / "ppn.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no detector here; expected grounder\.json"):
        load_detector(tmp_path)


@pytest.mark.parametrize(
    ("load", "name", "repo"),
    [
        (load_segmenter, "medsam-vit-base", "wanglab/medsam-vit-base"),
        (load_detector, "grounding-dino-tiny", "IDEA-Research/grounding-dino-tiny"),
    ],
)
@pytest.mark.parametrize("torn", [b'{"model_ty', b"", b"{}"])
def test_a_named_model_with_a_torn_config_is_told_so(no_hub, load, name, repo, torn):
    for number, file in enumerate(
        ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json")
    ):
        content = torn if file == "config.json" else b"whole"
        put_into_cache(no_hub, repo, file, content, str(number) * 64)
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is not"):
        load(name)


def test_the_embedded_dino_with_a_torn_config_is_told_so(weights):
    folder = weights / "nano-dino"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"whole")
    (folder / "config.json").write_text('{"model_ty')
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is not"):
        load_detector("nano-dino")
