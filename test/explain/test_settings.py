"""Settings out of range are refused with the name of the field."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from explain_cnn_ros.explain.metrics import (
    DEFAULT_METRICS,
    OPPOSING,
    PAPER_METRICS,
    SUPPORTING,
    Reads,
    metric,
    metric_names,
)
from explain_cnn_ros.explain.settings import PRESETS, ExplainSettings


def test_defaults_are_the_papers_with_influence_first() -> None:
    settings = ExplainSettings()
    assert (settings.perturbations, settings.sigma, settings.noise) == (50, 0.1, "white")
    assert settings.top_n == 5
    assert settings.layers == (3, 4, 5, 6, 7, 8, 9)
    assert settings.metrics == DEFAULT_METRICS == (SUPPORTING, OPPOSING, *PAPER_METRICS)
    assert (settings.proof, settings.deconvnet_start) == ("each", "contribution")
    assert settings.output == "logit"
    assert settings.precision_lambda == 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("perturbations", n) for n in (1, -5, 2.5, math.nan, "50", None)],
        *[("perturbations_max", n) for n in (49, 1, -5, 60.5, None)],
        *[("seconds_max", s) for s in (-0.1, math.nan, math.inf, "1")],
        *[("perturbation_groups", n) for n in (0, 1, 3, 9, 101, 2.0)],
        *[("activation", a) for a in ("relu", "", None)],
        *[("precision_lambda_absolute", b) for b in (1, "true", None)],
        *[("precision_mean_of_inverse", b) for b in (1, "true", None)],
        *[("weights", w) for w in ("both", "", None)],
        *[("deconvnet", d) for d in ("gradient", "", None)],
        *[("deconvnet_start", d) for d in ("all", "", None)],
        *[("proof", p) for p in ("all", "", None, True)],
        *[("silencing_draws", n) for n in (-1, 1001, 2.5)],
        *[("compute_precision", p) for p in ("float64", "half", "", None)],
        *[("sigma", s) for s in (0, -0.1, 11.0, math.nan, math.inf, "0.1")],
        *[("noise", n) for n in ("pink", "", "WHITE", None, ("white",))],
        *[("noise_length", s) for s in (0.5, 0, -16, math.nan, math.inf)],
        *[("seed", s) for s in (2**63, -1, 0.5, None)],
        *[("top_n", n) for n in (0, -1, 1.5, math.nan)],
        *[("layers", n) for n in ((), (0,), (-1, 3), (256,), (3, 3), (3.5,), ("3",), ((3,),), 3, None)],
        *[(name, value) for name in ("layer_names", "target") for value in (None, 3, ("conv1_1",))],
        *[("metrics", m) for m in ((), ("correlation",), ("weight_sum", "weight_sum"), "weight_sum")],
        *[("output", o) for o in ("softmax", "")],
        *[("precision_lambda", x) for x in (-0.1, math.nan, math.inf)],
        *[("live_share_min", x) for x in (-0.1, 1.1, math.nan)],
        *[("patch_share", x) for x in (-0.1, 1.0, 2, math.nan)],
        *[("stability_target", x) for x in (-0.1, 1.1, math.nan)],
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is "):
        ExplainSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("perturbations", 2),
        ("perturbations", np.int64(7)),
        ("perturbations_max", 50),
        ("proof", "together"),
        ("proof", "none"),
        ("deconvnet_start", "strongest"),
        ("perturbation_groups", 100),
        ("noise", "smooth"),
        ("noise", "ramp"),
        ("noise_length", 1),
        ("seed", 0),
        ("seed", 2**63 - 1),
        ("top_n", 1),
        ("layers", (1, 255)),
        ("sigma", 1),
        ("metrics", ("weight_sum",)),
        ("output", "probability"),
        ("precision_lambda", 0),
        ("live_share_min", 0),
        ("live_share_min", 1),
        ("patch_share", 0),
        ("stability_target", 0),
        ("stability_target", 1),
    ],
)
def test_extremes_are_allowed(name: str, value: object) -> None:
    assert getattr(ExplainSettings(**{name: value}), name) == value


def test_every_field_is_tried_above() -> None:
    marks = test_nonsense_is_refused_by_name.pytestmark
    tried = {name for mark in marks for name, _ in mark.args[1]}
    assert tried == {field.name for field in dataclasses.fields(ExplainSettings)}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_changed(name: str) -> None:
    settings, original = ExplainSettings.preset(name, top_n=7), ExplainSettings.preset(name)
    assert settings.top_n == 7
    assert dataclasses.replace(settings, top_n=original.top_n) == original


def test_the_preset_of_the_paper_has_its_six_metrics_and_nothing_else() -> None:
    assert ExplainSettings.preset("paper") == ExplainSettings(metrics=PAPER_METRICS)
    assert len(PAPER_METRICS) == 6
    assert Reads.GRADIENTS not in {metric(name).reads for name in PAPER_METRICS}
    assert ExplainSettings.preset("authors").metrics == PAPER_METRICS


@pytest.mark.parametrize("name", ["stable", "stable_fine"])
def test_presets_of_the_noise_change_the_noise_only(name: str) -> None:
    settings = ExplainSettings.preset(name)
    noise = {key: getattr(settings, key) for key in ("perturbations", "sigma", "noise", "noise_length")}
    assert settings == ExplainSettings(**noise) != ExplainSettings()


def test_the_preset_live_is_the_influence_of_the_image_alone() -> None:
    expected = ExplainSettings(perturbations=0, metrics=(SUPPORTING, OPPOSING), top_n=3, proof="together")
    assert ExplainSettings.preset("live") == expected


class TestWithoutPerturbations:
    @pytest.mark.parametrize("name", [name for name in DEFAULT_METRICS if metric(name).reads is Reads.PERTURBATIONS])
    def test_metrics_that_read_them_are_refused_with_the_others_named(self, name: str) -> None:
        with pytest.raises(ValueError, match=r"^metrics is ") as caught:
            ExplainSettings(perturbations=0, metrics=(SUPPORTING, name))
        message = str(caught.value)
        assert "without perturbations (0), some of influence, counter_influence, activation_sum" in message
        assert "activation_output_correlation" not in message.split("some of")[1]

    def test_the_default_metrics_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"^metrics is .*without perturbations"):
            ExplainSettings(perturbations=0)

    def test_all_other_metrics_are_allowed(self) -> None:
        others = tuple(name for name in metric_names() if metric(name).reads is not Reads.PERTURBATIONS)
        assert ExplainSettings(perturbations=0, metrics=others).metrics == others
        assert len(others) == 6

    def test_one_perturbation_is_refused_and_says_what_is_allowed(self) -> None:
        with pytest.raises(ValueError, match=r"^perturbations is 1.*0, or at least 2"):
            ExplainSettings(perturbations=1, metrics=(SUPPORTING,))


def test_unknown_preset() -> None:
    with pytest.raises(
        ValueError, match="preset is 'best': it must be one of paper, authors, stable, stable_fine, live"
    ):
        ExplainSettings.preset("best")


def test_lists_become_tuples() -> None:
    settings = ExplainSettings(layers=[3, 4], metrics=["weight_sum"])
    assert settings.layers == (3, 4)
    assert settings.metrics == ("weight_sum",)
    assert settings == ExplainSettings(layers=(3, 4), metrics=("weight_sum",))
    assert hash(settings) == hash(ExplainSettings(layers=(3, 4), metrics=("weight_sum",)))


def test_layers_are_sorted() -> None:
    assert ExplainSettings(layers=(9, 3, 4)).layers == (3, 4, 9)


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExplainSettings().seed = 1
