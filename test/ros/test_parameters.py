"""The parameters: declared once; files and messages that repeat them are checked against the declaration."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros import msg
from explain_cnn_ros.explain.settings import ExplainSettings
from explain_cnn_ros.ros.messages import settings_message
from explain_cnn_ros.ros.parameters import NodeParameters, build, declared

ROOT = Path(__file__).parents[2]


def test_what_follows_from_declarations_is_up_to_date():
    done = subprocess.run([sys.executable, str(ROOT / "tools/document.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_defaults_build_the_defaults():
    assert build({name: default for name, (default, _) in declared().items()}) == NodeParameters()


def test_every_setting_travels_in_the_message():
    fields = {f.name for f in dataclasses.fields(ExplainSettings)}
    assert set(msg.ExplainSettings.get_fields_and_field_types()) == fields
    sent = settings_message(ExplainSettings(top_n=7, layers=(4, 2)))
    assert (sent.top_n, list(sent.layers)) == (7, [2, 4])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("explain.sigma", 0.0, "explain.sigma is 0.0: it must be at least 1e-06"),
        ("explain.layers", [3, 3], "explain.layers is (3, 3): it must be without repetition"),
        ("regions", "everywhere", "regions is 'everywhere': it must be one of whole, scan"),
        ("scan.person_height_max", 20, "scan.person_height_max is 20: it must be 0, or at least person_height_min"),
        ("threshold", float("nan"), "threshold is nan: it must be a finite number"),
    ],
)
def test_wrong_values_are_named(name, value, text):
    values = {key: default for key, (default, _) in declared().items()}
    with pytest.raises(ValueError, match=re.escape(text)):
        build(values | {name: value})


def test_every_parameter_has_a_description():
    assert all(option.description.endswith(".") for _, option in declared().values())
