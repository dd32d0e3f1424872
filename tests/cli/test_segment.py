from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.core.geometry import stroke_mask
from napari_usgseg.core.metrics import dice
from napari_usgseg.io.datasets import read_splits
from napari_usgseg.io.images import read_image
from napari_usgseg.io.labels import read_classes, read_labels
from napari_usgseg.io.outputs import CACHE_VARIABLE, RECORD_FILE
from napari_usgseg.segmentation.batch import alone_in
from tests.support.dicom import ENCODERS, write_dicom

ACROSS = np.arange(20, 180, dtype=np.float32)
ARC = np.stack([ACROSS, np.round(60 + 20 * np.sin(ACROSS / 30))], axis=1)
SPLITS = Path(__file__).resolve().parents[2] / "benchmarks" / "splits.json"


def test_a_box_gives_a_label_map_of_each_images_size(usgseg, images, tmp_path, checkpoint):
    out = tmp_path / "out"
    outcome = usgseg("segment", images, "--box", "50,40,10,10", "--out", out, "--model", checkpoint)
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 written, 0 failed" in outcome.out
    for path in images.iterdir():
        assert read_labels(out / path.name).shape == read_image(path).shape[:2]
    card = json.loads((out / "run.json").read_text())
    assert card["request"]["objects"][0]["box"] == [10, 10, 50, 40]
    assert card["request"]["segmenter"].startswith("nano-")
    assert card["request"]["grounder"] is None


def test_points_with_a_box_are_one_object_that_the_phrase_names(
    usgseg, images, tmp_path, checkpoint
):
    out = tmp_path / "out"
    outcome = usgseg(
        "segment", images / "scan 0.png", "--text", "cyst", "--box", "5,5,60,50",
        "--point", "30,30", "--point", "6,6,-", "--out", out, "--model", checkpoint,
    )  # fmt: skip
    assert outcome.code == 0
    (entry,) = json.loads((out / "run.json").read_text())["request"]["objects"]
    assert entry["points"] == [[30, 30, 1], [6, 6, 0]]
    assert [c.name for c in read_classes(out / "classes.json")] == ["cyst"]


@pytest.fixture
def bone(tmp_path) -> Path:
    """An image with a bright arc 9 pixels wide, from (20, 60) to (180, 60)."""
    folder = tmp_path / "bones"
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = np.where(stroke_mask(ARC, 9, (120, 200)), 180.0, 40.0)
    grey = np.clip(values * rng.gamma(8, 1 / 8, values.shape), 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / "hip.png")
    return folder


def test_a_trace_is_an_object_beside_a_box_and_the_phrases_name_them(
    usgseg, bone, tmp_path, checkpoint
):
    out = tmp_path / "out"
    ends = f"{ARC[0, 0]:g},{ARC[0, 1]:g} {ARC[-1, 0]:g},{ARC[-1, 1]:g}"
    asked = ("segment", bone, "--text", "cyst, ilium", "--box", "5,90,30,115", "--trace", ends,
             "--width", "9", "--out", out, "--model", checkpoint)  # fmt: skip
    assert usgseg(*asked).code == 0
    found = read_labels(out / "hip.png") == 2
    assert dice(found, stroke_mask(ARC, 9, found.shape)) > 0.88
    assert [c.name for c in read_classes(out / "classes.json")] == ["cyst", "ilium"]
    _, entry = json.loads((out / "run.json").read_text())["request"]["objects"]
    assert entry == {"trace": [list(map(float, ARC[0])), list(map(float, ARC[-1]))], "width": 9.0}
    assert "kept" in usgseg(*asked).out
    wider = [*asked[:-6], "--width", "12", *asked[-4:]]
    assert usgseg(*wider).code == 1, "another request"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--trace", "1,2 3,4"), "--width"),
        (("--width", "5", "--box", "1,2,30,40"), "--trace"),
        (("--trace", "1,2", "--width", "5"), "both ends"),
        (("--trace", "1,2 3", "--width", "5"), "x,y x,y"),
        (("--trace", "1,2 nan,4", "--width", "5"), "x,y x,y"),
    ],
)
def test_a_trace_that_is_none_is_refused_in_one_line(usgseg, bone, tmp_path, given, said):
    outcome = usgseg("segment", bone, *given, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert said in outcome.err_lines[0]


def test_a_trace_that_leaves_an_image_is_named_for_it(usgseg, bone, tmp_path, checkpoint):
    outcome = usgseg("segment", bone, "--trace", "5,5 900,5", "--width", "5", "--out",
                     tmp_path / "out", "--model", checkpoint)  # fmt: skip
    assert outcome.code == 3
    assert "hip.png: point 900,5 is outside" in outcome.err


def test_bad_files_among_good_ones_are_named_and_give_code_3(usgseg, images, tmp_path, checkpoint):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing more")
    (images / "empty.png").write_bytes(b"")
    gone = images / "gone.png"
    out = tmp_path / "out"
    outcome = usgseg(
        "segment", images, gone, "--box", "10,10,50,40", "--out", out, "--model", checkpoint
    )
    assert outcome.code == 3
    assert len(outcome.err_lines) == 3
    for name in ("broken.png", "empty.png", "gone.png"):
        assert sum(name in line for line in outcome.err_lines) == 1
    assert sorted(path.name for path in out.glob("*.png")) == [
        "scan 0.png", "scan 1.png", "scan 2.png",
    ]  # fmt: skip


LOOP = np.random.default_rng(0).integers(0, 255, (4, 60, 80), np.uint8)
BOX = ("--box", "10,10,50,40")


@pytest.mark.parametrize("name", ["loop.dcm", "IM0001", "loop.tif", "loop.nii.gz"])
def test_a_loop_has_a_label_map_for_each_frame(usgseg, tmp_path, checkpoint, name):
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if name.endswith("tif"):
        tifffile.imwrite(path, LOOP, photometric="minisblack")
    elif name.endswith("gz"):
        nibabel.save(nibabel.Nifti1Image(LOOP.T, np.diag([-1, -1, 1, 1])), path)
    else:
        write_dicom(path, LOOP, PatientID="7261")
    words = ["segment", path, *BOX, "--model", checkpoint, "--overlay", "--out", tmp_path / "out"]
    outcome = usgseg(*words)
    assert (outcome.code, outcome.err) == (0, "")
    stem = name.partition(".")[0]
    for folder in (tmp_path / "out" / stem, tmp_path / "out" / "overlays" / stem):
        assert [p.name for p in sorted(folder.iterdir())] == [f"{k:04d}.png" for k in range(4)]
    for k in range(4):
        assert read_labels(tmp_path / "out" / stem / f"{k:04d}.png").shape == (60, 80)
    entry = json.loads((tmp_path / "out" / "run.json").read_text())["files"][stem]
    assert entry["status"] == "done"
    assert entry.get("group", "patient-").startswith("patient-")
    assert "0 written, 1 kept, 0 failed" in usgseg(*words).out


def test_frames_that_an_interrupted_run_wrote_are_kept(usgseg, tmp_path, checkpoint):
    path = write_dicom(tmp_path / "loop.dcm", LOOP)
    out = tmp_path / "out"
    words = ["segment", path, *BOX, "--model", checkpoint, "--out", out]
    assert usgseg(*words).code == 0
    run = json.loads((out / "run.json").read_text())
    run["files"]["loop"]["status"] = "writing"
    (out / "run.json").write_text(json.dumps(run))
    (out / "loop" / "0002.png").unlink()
    before = (out / "loop" / "0001.png").stat().st_mtime_ns
    assert usgseg(*words).code == 0
    assert (out / "loop" / "0002.png").is_file()
    assert (out / "loop" / "0001.png").stat().st_mtime_ns == before


def test_a_broken_frame_is_named_and_the_others_are_written(usgseg, tmp_path, checkpoint):
    encode = ENCODERS["1.2.840.10008.1.2.4.90"]
    coded = [encode(frame) for frame in LOOP]
    coded[2] = coded[2][:50] + bytes(40)
    path = write_dicom(tmp_path / "a.dcm", LOOP, syntax="1.2.840.10008.1.2.4.90", coded=coded)
    out = tmp_path / "out"
    outcome = usgseg("segment", path, *BOX, "--model", checkpoint, "--out", out)
    assert outcome.code == 3
    assert "a.dcm: frame 2 is truncated or damaged" in outcome.err
    assert sorted(p.name for p in (out / "a").iterdir()) == ["0000.png", "0001.png", "0003.png"]


def test_a_name_that_repeats_who_the_patient_is_is_shown_and_never_stored(
    usgseg, tmp_path, checkpoint
):
    folder = tmp_path / "in"
    (folder / "Zebedee").mkdir(parents=True)
    who = {"PatientName": "Zebedee^Maria", "PatientID": "MRN90210"}
    write_dicom(folder / "MRN90210.dcm", LOOP, **who)
    write_dicom(folder / "Zebedee" / "a.dcm", LOOP[:1], **who)
    write_dicom(folder / "b.dcm", LOOP[:1], **who)
    out = tmp_path / "out"
    words = ["segment", folder, *BOX, "--model", checkpoint, "--out", out, "--recursive"]
    outcome = usgseg(*words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "MRN90210.dcm" in outcome.out  # on the screen
    stored = " ".join(str(path.relative_to(out)) for path in out.rglob("*"))
    stored += (out / "run.json").read_text().replace(str(tmp_path), "")
    assert not [word for word in ("MRN90210", "Zebedee", "Maria") if word in stored]
    files = json.loads((out / "run.json").read_text())["files"]
    assert len(files) == 3
    assert len({entry["group"] for entry in files.values()}) == 1
    assert "0 written, 3 kept" in usgseg(*words).out


def test_a_dangling_link_is_named(usgseg, images, tmp_path, checkpoint):
    (images / "link.png").symlink_to(tmp_path / "gone.png")
    outcome = usgseg("segment", images, *BOX, "--out", tmp_path / "out", "--model", checkpoint)
    assert outcome.code == 3
    assert len(outcome.err_lines) == 1
    assert "link.png: a link to" in outcome.err


def test_label_maps_do_not_go_among_the_images(usgseg, images, checkpoint):
    words = ["--box", "10,10,50,40", "--model", checkpoint, "--out"]
    before = sorted(images.iterdir())
    outcome = usgseg("segment", images, *words, images / ".." / images.name)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "is the folder of the images" in outcome.err
    assert sorted(images.iterdir()) == before
    assert usgseg("segment", images, *words, images / "labels").code == 0


def test_a_file_in_the_way_of_the_folder_is_named_in_plain_words(
    usgseg, images, checkpoint, tmp_path
):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "sub"):
        words = ["--box", "10,10,50,40", "--model", checkpoint, "--out", out]
        outcome = usgseg("segment", images, *words)
        assert outcome.code == 1
        assert outcome.err.startswith(f"usgseg: {tmp_path / 'file'}: is a file, not a folder")


def test_two_processes_do_not_write_into_one_folder(usgseg, images, checkpoint, tmp_path):
    out = tmp_path / "out"
    words = ["segment", images, "--box", "10,10,50,40", "--model", checkpoint, "--out", out]
    out.mkdir()
    with alone_in(out):
        outcome = usgseg(*words)
    assert outcome.code == 1
    assert len(outcome.err_lines) == 1
    assert "another usgseg writes label maps here now" in outcome.err
    assert list(out.iterdir()) == []
    assert usgseg(*words).code == 0
    assert [path.name for path in out.glob(".*")] == [RECORD_FILE], "no lock stays"


def test_nothing_is_overwritten_unless_told_to(usgseg, images, tmp_path, checkpoint):
    out = tmp_path / "out"
    out.mkdir()
    theirs = out / "scan 1.png"
    theirs.write_bytes(b"somebody's work")
    words = ["segment", images, "--box", "10,10,50,40", "--out", out, "--model", checkpoint]
    first = usgseg(*words)
    assert first.code == 3
    assert "scan 1.png" in first.err
    assert theirs.read_bytes() == b"somebody's work"

    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    second = usgseg(*words)
    assert "0 written, 2 kept, 1 failed" in second.out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == stamps

    third = usgseg(*words, "--overwrite")
    assert "2 written, 1 failed" in third.out
    assert third.code == 3
    assert theirs.read_bytes() == b"somebody's work"
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} != stamps


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_files_of_a_folder_are_not_written_into_it(
    usgseg, images, checkpoint, overwrite, monkeypatch, tmp_path
):
    before = {path: path.read_bytes() for path in images.iterdir()}
    (tmp_path / "way").symlink_to(images)
    monkeypatch.chdir(images)
    words = ["--box", "10,10,50,40", "--model", checkpoint, *overwrite, "--out"]
    for out in (images, ".", tmp_path / "way"):
        for inputs in (sorted(before), ["scan 0.png"], [tmp_path / "way"]):
            outcome = usgseg("segment", *inputs, *words, out)
            assert outcome.code == 1
            assert "is the folder of the images" in outcome.err
            assert "overwrite" not in outcome.err
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_an_image_that_was_replaced_is_named_and_overwriting_is_the_cure(
    usgseg, images, tmp_path, checkpoint
):
    out = tmp_path / "out"
    words = ["segment", images, "--box", "10,10,40,40", "--out", out, "--model", checkpoint]
    assert usgseg(*words).code == 0
    Image.new("L", (60, 101)).save(images / "scan 1.png")
    outcome = usgseg(*words)
    assert outcome.code == 3
    assert "scan 1.png" in outcome.err
    assert "replaced since; --overwrite makes it anew" in outcome.err
    assert "0 written, 2 kept, 1 failed" in outcome.out
    assert usgseg(*words, "--overwrite").code == 0
    assert read_labels(out / "scan 1.png").shape == (101, 60)


def test_names_that_differ_in_case_are_both_segmented(usgseg, images, tmp_path, checkpoint):
    (images / "scan 0.png").rename(images / "a.png")
    (images / "scan 1.png").rename(images / "A.png")
    if len(list(images.iterdir())) < 3:
        pytest.skip("this file system ignores case")
    out = tmp_path / "out"
    words = ["--box", "10,10,40,40", "--out", out, "--model", checkpoint]
    assert usgseg("segment", images, *words).code == 0
    names = [path.name.lower() for path in out.glob("*.png")]
    assert len(names) == len(set(names)) == 3
    again = usgseg(
        "segment", images, images / "a.png", images / ".." / images.name / "a.png", *words
    )
    assert "0 written, 3 kept, 0 failed" in again.out


def test_what_is_left_out_is_said_and_folders_are_searched_where_asked_for(
    usgseg, images, tmp_path, checkpoint
):
    for name in ("x.txt", "y.pdf", "IM01"):
        (images / name).write_bytes(b"\0" * 128)
    patient = images / "patient 2"
    patient.mkdir()
    (images / "scan 2.png").rename(patient / "scan 0.png")
    words = ["segment", images, "--box", "10,10,40,40", "--model", checkpoint, "--out"]
    outcome = usgseg(*words, tmp_path / "flat")
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 other files were left out (1 .pdf, 1 .txt, 1 without a suffix)" in outcome.out
    assert "1 folder was not searched (patient 2): --recursive searches them too." in outcome.out
    outcome = usgseg(*words, images / "labels", "--recursive")
    assert (outcome.code, outcome.err) == (0, "")
    assert "not searched" not in outcome.out
    again = usgseg(*words, images / "labels", "--recursive")
    assert "0 written, 3 kept" in again.out, "label maps are no images"
    files = json.loads((images / "labels" / "run.json").read_text())["files"]
    assert files["patient 2-scan 0"]["group"] == "patient 2"
    refused = usgseg(*words, patient, "--recursive", "--overwrite")
    assert refused.code == 1
    assert "patient 2: is the folder of the images" in refused.err
    assert [path.name for path in patient.iterdir()] == ["scan 0.png"]


def test_images_of_an_archive_are_segmented_and_a_bad_one_is_named(
    usgseg, images, tmp_path, checkpoint, monkeypatch
):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    sent = tmp_path / "sent" / "study.zip"
    sent.parent.mkdir()
    with zipfile.ZipFile(sent, "w") as archive:
        for path in images.iterdir():
            archive.write(path, f"patient 1/{path.name}")
        archive.writestr("patient 1/broken.png", b"\x89PNG")
    words = ["--box", "10,10,50,40", "--model", checkpoint]
    outcome = usgseg("segment", sent, *words, "--out", tmp_path / "out")
    assert outcome.code == 3
    assert "3 written, 1 failed" in outcome.out
    assert len(outcome.err_lines) == 1
    assert "usgseg: study.zip/patient 1/broken.png: " in outcome.err
    assert "study.zip/patient 1/" in outcome.out
    assert str(tmp_path / "cache") not in outcome.out + outcome.err
    usgseg("segment", images, *words, "--out", tmp_path / "plain")
    for path in (tmp_path / "plain").glob("*.png"):
        assert (tmp_path / "out" / f"patient 1-{path.name}").read_bytes() == path.read_bytes()
    assert [path.name for path in sent.parent.iterdir()] == ["study.zip"]


def test_a_folder_of_folders_alone_says_how_they_are_searched(usgseg, images, tmp_path):
    outcome = usgseg("segment", images.parent, "--text", "cyst", "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "1 folder was not searched (images here): --recursive searches them too" in outcome.err


def test_a_dicom_file_without_a_picture_is_a_failure(usgseg, images, tmp_path, checkpoint):
    (images / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    words = ["--box", "10,10,40,40", "--model", checkpoint, "--out", tmp_path / "out"]
    outcome = usgseg("segment", images, *words)
    assert outcome.code == 3
    assert "IM0001: a DICOM file without a picture" in outcome.err


def test_a_file_that_is_named_and_is_no_image_is_a_failure(usgseg, images, tmp_path, checkpoint):
    (images / "x.gif").write_bytes(b"GIF89a")
    outcome = usgseg(
        "segment", images / "x.gif", images / "scan 0.png", "--box", "1,1,40,40",
        "--out", tmp_path / "out", "--model", checkpoint,
    )  # fmt: skip
    assert outcome.code == 3
    assert "x.gif" in outcome.err


@pytest.mark.parametrize("text", ["?", ";", "。", "，", " - ", ""])
@pytest.mark.parametrize("more", [[], ["--box", "1,1,40,40"]])
def test_a_phrase_of_signs_is_refused_before_the_work(usgseg, images, tmp_path, text, more):
    out = tmp_path / "out"
    outcome = usgseg("segment", images, "--text", text, *more, "--out", out)
    assert outcome.code == 1
    assert outcome.err.startswith("usgseg: --text is empty")
    assert not out.exists()


def test_phrases_name_boxes_and_points_first_to_first(usgseg, images, tmp_path, checkpoint):
    image = images / "scan 0.png"
    words = ["segment", image, "--text", "nerve, cyst", "--model", checkpoint, "--out"]
    boxes = ["--box", "2,2,20,20", "--box", "40,30,60,50"]
    points = ["--point", "10,10", "--point", "50,40"]
    for name, prompts in (("boxes", boxes), ("points", points)):
        assert usgseg(*words, tmp_path / name, *prompts).code == 0
        card = json.loads((tmp_path / name / "run.json").read_text())
        assert len(card["request"]["objects"]) == 2
        classes = read_classes(tmp_path / name / "classes.json")
        assert [c.name for c in classes] == ["nerve", "cyst"]
    for prompts in (boxes[:2], [*boxes, "--box", "1,1,9,9"], points[:2]):
        outcome = usgseg(*words, tmp_path / "no", *prompts)
        assert outcome.code == 1
        assert "2 phrases for" in outcome.err
    outcome = usgseg(*words, tmp_path / "no", *points, "--point", "3,3,-")
    assert outcome.code == 1
    assert "several phrases" in outcome.err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (["--box", "10,10,10,40"], "has no area"),
        (["--box", "70,10,75,40"], "box 70,10,75,40 is outside the image of 64 x 60 pixels"),
        (["--point", "70,10"], "point 70,10 is outside the image of 64 x 60 pixels"),
    ],
)
def test_a_box_or_point_that_shows_nothing_is_named(
    usgseg, images, tmp_path, checkpoint, prompt, words
):
    outcome = usgseg("segment", images, *prompt, "--out", tmp_path / "o", "--model", checkpoint)
    assert outcome.code == 3
    (line,) = [line for line in outcome.err_lines if "scan 2.png" in line]
    assert words in line
    assert not (tmp_path / "o" / "scan 2.png").exists()


def test_an_unknown_word_is_said(usgseg, images, tmp_path):
    words = ["segment", images / "scan 0.png", "--out", tmp_path / "out", "--text"]
    outcome = usgseg(*words, "Fetuskopf, brest tumor")
    assert outcome.code == 0
    assert "unknown word 'fetuskopf'; nearest known phrases: " in outcome.out
    assert "unknown word 'brest'; nearest known phrases: breast tumor" in outcome.out
    assert "threshold" not in outcome.out


def test_what_a_reader_noticed_is_said(usgseg, images, tmp_path, checkpoint):
    hidden = Image.new("LA", (80, 60), (90, 0))
    hidden.save(images / "scan 0.png")
    words = ["--box", "10,10,40,40", "--out", tmp_path / "out", "--model", checkpoint]
    outcome = usgseg("segment", images / "scan 0.png", *words)
    assert outcome.code == 0
    assert "Its alpha hides the whole picture and was ignored." in outcome.out


def test_another_prompt_into_the_same_folder_is_a_wrong_request(
    usgseg, images, tmp_path, checkpoint
):
    words = ["segment", images, "--out", tmp_path / "out", "--model", checkpoint]
    assert usgseg(*words, "--box", "10,10,50,40").code == 0
    outcome = usgseg(*words, "--box", "20,20,50,40")
    assert outcome.code == 1
    assert "another request" in outcome.err


def test_the_cleaning_switches_reach_the_masks(usgseg, images, tmp_path, checkpoint):
    image = images / "scan 0.png"
    areas = {}
    for name, switches in {"plain": [], "grown": ["--dilation", "5"]}.items():
        words = ["--box", "20,20,40,40", "--model", checkpoint, "--keep", "all", *switches]
        assert usgseg("segment", image, "--out", tmp_path / name, *words).code == 0
        areas[name] = int((read_labels(tmp_path / name / image.name) > 0).sum())
    assert areas["plain"] < areas["grown"]
    outcome = usgseg(
        "segment", image, "--box", "1,1,9,9", "--out", tmp_path / "x", "--keep", "some"
    )
    assert outcome.code == 1
    assert "prompted, largest, all" in outcome.err


def test_a_phrase_finds_the_heads_of_held_out_patients(usgseg, data_folder, tmp_path):
    folder = data_folder / "hc18"
    held_out = read_splits(SPLITS)["hc18"].test
    names = [f"{item}.png" for item in held_out[:: len(held_out) // 6]]
    sources = [folder / "images" / name for name in names]
    outcome = usgseg("segment", *sources, "--text", "fetal head", "--out", tmp_path, "--overlay")
    assert outcome.code == 0, outcome.err
    scores = []
    for name in names:
        labels = read_labels(tmp_path / name)
        scores.append(dice(read_labels(folder / "masks" / name) == 1, labels == 1))
        with Image.open(tmp_path / "overlays" / name) as overlay:
            assert overlay.size == labels.shape[::-1]
    assert sum(scores) / len(scores) > 0.85, dict(zip(names, scores, strict=True))


def test_one_sentence_of_two_phrases_gives_one_label_map_with_a_label_for_each(
    usgseg, data_folder, tmp_path
):
    folder = data_folder / "usgra"
    names = [f"{item}.png" for item in read_splits(SPLITS)["usgra"].test[:6]]
    sources = [folder / "images" / name for name in names]
    outcome = usgseg("segment", *sources, "--text", "Blood vessel . nerve", "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    classes = {item.name: item.class_id for item in read_classes(tmp_path / "classes.json")}
    assert classes == {"blood vessel": 1, "nerve": 2}, "in the order of the sentence"
    truth_of = {"nerve": 1, "blood vessel": 2}
    own: list[float] = []
    other: list[float] = []
    for name in names:
        labels, truth = read_labels(tmp_path / name), read_labels(folder / "masks" / name)
        assert set(labels.ravel()) <= {0, 1, 2}
        for phrase, value in truth_of.items():
            own.append(dice(truth == value, labels == classes[phrase]))
            other.append(dice(truth == value, labels == 3 - classes[phrase]))
    assert sum(own) / len(own) > 0.5
    assert sum(other) / len(other) < 0.2, "no phrase has the other's label"


@pytest.mark.parametrize("phrase", ["fetal head", "zebra crossing"])
def test_a_phrase_that_is_not_there_leaves_an_empty_map_and_says_so(
    usgseg, data_folder, tmp_path, phrase
):
    source = data_folder / "busi" / "images" / "benign_001.png"
    outcome = usgseg("segment", source, "--text", phrase, "--out", tmp_path)
    assert outcome.code == 0, outcome.err
    assert not read_labels(tmp_path / source.name).any()
    assert f"'{phrase}'" in outcome.out
