"""Videos and animations: every frame is the one that decoding from the start gives."""

from __future__ import annotations

import os
import random
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_usgseg.core.errors import ImageReadError
from napari_usgseg.io.images import read_image
from napari_usgseg.io.reading.files import OpenFiles, kind_of, open_frames
from napari_usgseg.io.reading.frames import MAX_FRAMES
from tests.support.videos import decoded, write_video

CINE = Path(os.environ.get("USGSEG_DATA", "absent")).parent / "cine"
samples = pytest.mark.skipif(not CINE.is_dir(), reason="the real loops of cine/ are not here")


def check_frames(path, expected) -> None:
    with open_frames(path) as frames:
        assert len(frames) == len(expected)
        assert frames.sizes[0] == expected[0].shape[:2]
        order = list(range(len(expected)))
        random.Random(0).shuffle(order)
        for index in (*order[:25], len(expected) - 1, 0, 1, 2):
            np.testing.assert_array_equal(frames.frame(index), expected[index])


@samples
@pytest.mark.parametrize("name", ["echo_1_side_by_side.mp4", "lung_1.mp4", "lung_2.mp4"])
def test_real_videos_are_read_frame_by_frame(name):
    check_frames(CINE / name, decoded(CINE / name))
    with open_frames(CINE / name) as frames:
        assert frames.about.rate == (50 if "echo" in name else 25)


@samples
def test_a_real_loop_of_pages_is_read_frame_by_frame():
    expected = tifffile.imread(CINE / "echo_2.tif")
    check_frames(CINE / "echo_2.tif", list(expected))


@pytest.mark.parametrize(
    ("name", "codec", "more"),
    [
        ("a.mp4", "libx264", {"bf": "3", "flags": "-cgop"}),
        ("a.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=12"}),
        ("a.mov", "mpeg4", {}),
        ("a.mkv", "libx264", {"bf": "2"}),
        ("a.mkv", "ffv1", {}),
        ("a.avi", "mjpeg", {"pixels": "yuvj420p"}),
        ("a.avi", "libx264", {"bf": "2"}),
        ("a.avi", "mpeg4", {"bf": "2"}),
        ("a.avi", "rawvideo", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.webm", "libvpx", {}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.mp4", "libx265", {}),
    ],
)
def test_videos_of_all_kinds_are_read_frame_by_frame(tmp_path, name, codec, more):
    path = write_video(tmp_path / name, codec=codec, **more)
    check_frames(path, decoded(path))


def test_a_video_is_known_by_what_it_holds(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=3)
    path.rename(tmp_path / "loop")
    with open_frames(tmp_path / "loop") as frames:
        assert (len(frames), frames.about.kind, frames.about.rate) == (3, "video", 25)


def test_a_video_of_an_unknown_codec_has_its_own_cure(tmp_path):
    path = write_video(tmp_path / "a.avi", codec="mpeg4", count=3)
    path.write_bytes(path.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(ImageReadError, match=r"a\.avi: .*convert it to MP4|a\.avi: .*damaged") as e:
        read_image(path)
    assert "PNG" not in str(e.value)


def test_a_playlist_opens_no_other_file(tmp_path):
    write_video(tmp_path / "a.mp4", count=3)
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.mp4\n",
        "ffconcat version 1.0\nfile a.mp4\n",
    ):
        (tmp_path / "b.mp4").write_text(text)
        with pytest.raises(ImageReadError, match="not an image of a known format"):
            read_image(tmp_path / "b.mp4")


def test_a_broken_frame_costs_no_other(tmp_path):
    path = write_video(tmp_path / "a.avi", codec="mjpeg", pixels="yuvj420p", count=60)
    whole = decoded(path)
    data = bytearray(path.read_bytes())
    place = 0
    for _ in range(38):
        place = data.index(b"\xff\xd8", place + 1)
    after = data.index(b"\xff\xd8", place + 1) - 8
    data[place:after] = bytes(after - place)
    path.write_bytes(data)
    with open_frames(path) as frames:
        assert len(frames) == 60
        with pytest.raises(ImageReadError, match="frame 37 is damaged or missing"):
            frames.frame(37)
        for index in (36, 38, 59, 0):
            np.testing.assert_array_equal(frames.frame(index), whole[index])


def test_a_video_that_was_cut_off_keeps_its_frames(tmp_path):
    path = write_video(tmp_path / "a.mkv", count=60)
    whole = decoded(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with open_frames(path) as frames:
        assert 20 < len(frames) < 60
        np.testing.assert_array_equal(frames.frame(15), whole[15])


@pytest.mark.parametrize("keep", [40, 400, 2000])
def test_a_video_that_ends_in_its_header_is_a_clear_error(tmp_path, keep):
    path = write_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageReadError, match=r"a\.mp4: "):
        read_image(path)


def test_memory_does_not_grow_with_a_long_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=600, size=(240, 320), gop=600)
    tracemalloc.start()
    with open_frames(path) as frames:
        assert len(frames) == 600
        assert tracemalloc.get_traced_memory()[1] < 10e6
        frames.frame(599)
        for index in range(0, 600, 37):
            frames.frame(index)
    assert tracemalloc.get_traced_memory()[1] < 90e6
    tracemalloc.stop()


# Animations


def moving(count: int = 5) -> list[Image.Image]:
    y, x = np.mgrid[:20, :30]
    frames = [np.stack([x * 8, y * 12, np.full_like(x, 40 * k)], -1) for k in range(count)]
    return [Image.fromarray(frame.astype(np.uint8)) for frame in frames]


@pytest.mark.parametrize(
    ("name", "more"), [("a.gif", {}), ("a.png", {}), ("a.webp", {"lossless": True}), ("a.webp", {})]
)
def test_animations_are_read_frame_by_frame(tmp_path, name, more):
    first, *rest = moving()
    first.save(tmp_path / name, save_all=True, append_images=rest, duration=40, **more)
    with Image.open(tmp_path / name) as image:
        expected = []
        for index in range(image.n_frames):
            image.seek(index)
            expected.append(np.asarray(image.convert("RGB")))
    check_frames(tmp_path / name, expected)
    with open_frames(tmp_path / name) as frames:
        assert frames.about.rate == 25
    np.testing.assert_array_equal(read_image(tmp_path / name, 3), expected[3])


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_one_frame_of_an_animated_format_is_an_image(tmp_path, name):
    moving()[0].save(tmp_path / name)
    with open_frames(tmp_path / name) as frames:
        assert (len(frames), frames.about.kind) == (1, "image")


@pytest.mark.parametrize("name", ["a.gif", "loop.mp4", "IM0001"])
def test_a_gif_is_one_whatever_stands_where_a_packet_would_begin(tmp_path, name):
    first, *rest = moving()
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[188] = data[376] = 0x47  # the sign of MPEG-TS, and the G of GIF; colours of the palette
    (tmp_path / name).write_bytes(data)
    with open_frames(tmp_path / name) as frames:
        assert len(frames) == 5
        assert frames.frame(4).shape == (20, 30, 3)
    assert kind_of(tmp_path / name) == "image"


def test_the_frames_of_a_gif_that_was_cut_off_can_be_read_as_far_as_it_goes(tmp_path):
    first, *rest = moving(9)
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    with Image.open(tmp_path / "a.gif") as image:
        image.seek(3)
        fourth = np.asarray(image.convert("RGB"))
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) * 2 // 3])
    with open_frames(tmp_path / "a.gif") as frames:
        assert 4 <= len(frames) <= 7
        np.testing.assert_array_equal(frames.frame(3), fourth)


@pytest.mark.parametrize(
    ("brand", "name"), [(b"avif", "AVIF"), (b"heic", "HEIC"), (b"mif1", "HEIF"), (b"crx ", "CR3")]
)
def test_a_picture_in_the_container_of_videos_is_named_and_no_video(tmp_path, brand, name):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x1cftyp" + brand + bytes(600))
    with pytest.raises(ImageReadError, match=f"a picture of the kind {name}; save it as PNG"):
        open_frames(tmp_path / "a.mp4")
    assert kind_of(tmp_path / "a.mp4") is None


@pytest.mark.parametrize("kind", ["gif", "png"])
def test_too_many_frames_are_refused_before_they_are_listed(tmp_path, kind):
    first, second, *_ = (image.resize((2, 2)) for image in moving())
    path = tmp_path / f"a.{kind}"
    first.save(path, save_all=True, append_images=[second])
    data = path.read_bytes()
    if kind == "gif":
        end = data[data.rindex(b"\x21\xf9") : -1]
        path.write_bytes(data[:-1] + end * (MAX_FRAMES + 1))
    else:
        place = data.index(b"fcTL") - 4
        path.write_bytes(data[:-12] + data[place : place + 38] * MAX_FRAMES + data[-12:])
    with pytest.raises(ImageReadError, match=r"more than the 200,000 frames.*cut it into parts"):
        open_frames(path)


def test_frames_that_an_animation_only_promises_are_none(tmp_path):
    first, *rest = moving()
    first.save(tmp_path / "a.png", save_all=True, append_images=rest)
    data = bytearray((tmp_path / "a.png").read_bytes())
    place = data.index(b"acTL") + 4
    data[place : place + 4] = b"\x7f\xff\xff\xff"
    data[place + 8 : place + 12] = zlib.crc32(data[place - 4 : place + 8]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with open_frames(tmp_path / "a.png") as frames:
        assert len(frames) == 5


# Files that stay open


def test_a_file_that_changes_is_opened_anew_and_no_more_than_a_few_stay_open(tmp_path):
    files = OpenFiles(2)
    paths = [write_video(tmp_path / f"{i}.mp4", count=3 + i) for i in range(3)]
    for path in paths:
        assert files.stored(path, 2).values.shape == (64, 96, 3)
    before = files.stored(paths[0], 1).values
    write_video(paths[0], count=9, codec="mpeg4")
    assert not np.array_equal(files.stored(paths[0], 1).values, before)
    files.stored(paths[0], 8)
    files.close()
    with pytest.raises(ImageReadError, match="no such file"):
        files.stored(tmp_path / "absent.mp4")
