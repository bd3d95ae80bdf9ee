"""The parameters: declared once; files and messages that repeat them are checked against the declaration."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

from explain_cnn_ros import msg
from explain_cnn_ros.explain.metrics import PAPER_METRICS
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings
from explain_cnn_ros.ros.descriptors import descriptor
from explain_cnn_ros.ros.messages import settings_message
from explain_cnn_ros.ros.parameters import NodeParameters, build, declared, replaced

ROOT = Path(__file__).parents[2]


def test_what_follows_from_declarations_is_up_to_date():
    done = subprocess.run([sys.executable, str(ROOT / "tools/document.py"), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_parameter_file_has_values_of_the_declared_types():
    """YAML takes some words for other types: the node would end with an exception."""
    (node,) = yaml.safe_load((ROOT / "config/explain.yaml").read_text()).values()
    flat = {}
    for name, value in node["ros__parameters"].items():
        flat |= {f"{name}.{leaf}": v for leaf, v in value.items()} if isinstance(value, dict) else {name: value}
    assert flat.keys() <= declared().keys()
    assert {name: type(value) for name, value in flat.items()} == {name: type(declared()[name][0]) for name in flat}


@pytest.mark.parametrize("word", sorted({c for _, o in declared().values() for c in o.choices or () if c}))
def test_choices_are_strings_in_yaml(word):
    """Users write them in parameter files and on the command line without quotes."""
    assert yaml.safe_load(word) == word


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
        ("regions", "everywhere", "regions is 'everywhere': it must be one of scan, whole"),
        ("scan.person_height_max", 20, "scan.person_height_max is 20: it must be 0, or at least person_height_min"),
        ("preset", "none", "preset is 'none': it must be one of '', paper, "),
        ("threshold", float("nan"), "threshold is nan: it must be a finite number"),
    ],
)
def test_wrong_values_are_named(name, value, text):
    values = {key: default for key, (default, _) in declared().items()}
    with pytest.raises(ValueError, match=re.escape(text)):
        build(values | {name: value})


def values_with(**changes):
    """The values of all parameters; `__` stands for the dot in a name."""
    defaults = {key: default for key, (default, _) in declared().items()}
    return defaults | {name.replace("__", "."): value for name, value in changes.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_replaces_what_it_names_and_nothing_else(preset):
    built = build(values_with(preset=preset, explain__top_n=3, explain__metrics=["weight_sum"], explain__sigma=0.3))
    expected = {"top_n": 3, "metrics": ("weight_sum",), "sigma": 0.3} | PRESETS[preset]
    assert built.explain == ExplainSettings(**expected)


def test_the_preset_of_the_paper_has_the_papers_metrics_only():
    for chosen in (["influence"], list(ExplainSettings().metrics)):
        assert build(values_with(preset="paper", explain__metrics=chosen)).explain.metrics == PAPER_METRICS


def test_parameters_without_effect_are_known():
    """Those that were set to something else than their default, which the preset does not have either."""
    assert replaced(values_with(preset="live")) == []
    assert replaced(values_with(explain__metrics=["weight_sum"])) == []
    chosen = {"explain__metrics": ["weight_sum"], "explain__proof": "none", "explain__top_n": 3}
    assert replaced(values_with(preset="live", **chosen)) == ["explain.metrics", "explain.proof"]
    assert replaced(values_with(preset="stable", **chosen)) == []
    assert replaced(values_with(preset="live", explain__metrics=["influence", "counter_influence"])) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"explain__perturbations": 0}, "it must be without perturbations (0), some of influence, counter_influence"),
        ({"explain__perturbations": 1}, "explain.perturbations is 1: it must be 0, or at least 2"),
        ({"explain__proof": "some"}, "explain.proof is 'some': it must be one of each, together, none"),
        (
            {"preset": "paper", "explain__perturbations": 10, "explain__perturbations_max": 20},
            "with the preset paper, explain.perturbations_max is 20: it must be 0, or at least perturbations (50)",
        ),
    ],
)
def test_values_that_do_not_fit_together_are_named(changes, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        build(values_with(**changes))


def test_what_ranges_of_ros_cannot_express_is_said_in_words():
    said = {name: descriptor(*described) for name, described in declared().items()}
    assert said["explain.layers"].additional_constraints == "Each number from 1 to 255, without repetition."
    assert said["explain.metrics"].additional_constraints.startswith("At least one of: influence, counter_influence, ")
    assert said["preset"].additional_constraints.startswith("One of: '' (empty), paper, ")
    assert said["explain.sigma"].additional_constraints == ""
    assert said["explain.sigma"].floating_point_range[0].from_value == pytest.approx(1e-6)
    assert said["megapixels_max"].floating_point_range[0].to_value == 10_000


def test_every_parameter_has_a_description():
    assert all(option.description.endswith(".") for _, option in declared().values())
