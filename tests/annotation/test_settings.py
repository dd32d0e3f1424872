"""Settings come back from JSON; what makes no sense there is passed over."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_usgseg.annotation.settings import DESPECKLING, Mode, Settings, View
from napari_usgseg.segmentation.postprocess import PostprocessSettings

SHARES = st.floats(0, 1)
SETTINGS = st.builds(
    Settings,
    phrase=st.text(),
    box_threshold=st.none() | SHARES,
    find_on_open=st.booleans(),
    labelling=st.sampled_from(["semantic", "instance"]),
    cache_gb=st.floats(0, 1e6),
    view=st.builds(
        View,
        opacity=SHARES,
        contrast=st.integers(-100, 100),
        despeckling=st.sampled_from(DESPECKLING),
    ),
    cleaning=st.builds(
        PostprocessSettings, keep=st.sampled_from(["all", "largest"]), opening=st.integers(0, 99)
    ),
    mode=st.sampled_from(list(Mode)),
    train_after=st.integers(1, 10_000),
)


@given(SETTINGS)
def test_settings_come_back_as_they_were(settings):
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    "nonsense",
    [
        {"segmenter": 3},
        {"box_threshold": 5},
        {"box_threshold": math.nan},
        {"text_threshold": "high"},
        {"find_on_open": 1},
        {"labelling": "panoptic"},
        {"cache_gb": math.inf},
        {"mode": "alone"},
        {"train_after": 0},
        {"train_after": 2.5},
        {"view": "bright"},
        {"view": {"opacity": 3, "contours": 1, "magic": True}},
        {"cleaning": {"keep": "some"}},
        {"cleaning": {"dilation": -1}},
        {"cleaning": None},
        {"of another version": {}},
    ],
)
def test_what_makes_no_sense_takes_its_default_and_the_rest_is_kept(nonsense):
    kept = {"phrase": "nerve", "train_by_itself": True}
    wanted = replace(Settings(), **kept)
    assert Settings.from_json({**kept, **nonsense}) == wanted


def test_one_wrong_value_of_a_group_leaves_the_others():
    settings = Settings.from_json(
        {"view": {"opacity": 9, "contrast": 20}, "cleaning": {"opening": 2}}
    )
    assert settings.view == View(contrast=20)
    assert settings.cleaning == PostprocessSettings(opening=2)
