"""A metric that somebody registers appears in tables and report, with its title and its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from explain_cnn_ros.analysis.cli import main
from explain_cnn_ros.analysis.legend import legend
from explain_cnn_ros.explain.metrics import Metric, Reads, register, unregister
from explain_cnn_ros.explain.settings import ExplainSettings


@pytest.fixture
def own_metric() -> Iterator[Metric]:
    """A metric that is not part of this package."""
    entry = Metric(
        name="mean_activation",
        title="mean activation",
        reads=Reads.IMAGE,
        function=lambda evidence: evidence.activation.mean((1, 2)),
        meaning="active everywhere, {weights}",
        source="this test",
        colour="#102030",
    )
    register(entry)
    yield entry
    unregister(entry.name)


def test_a_registered_metric_appears_everywhere(studio, bag, tmp_path, own_metric, capsys) -> None:
    output = tmp_path / "out"
    flags = (*studio.flags, "--metrics", "activation_sum", own_metric.name)
    assert main([str(a) for a in (bag, "--output", output, *flags)]) == 3  # one frame of the bag is broken
    table = studio.table(output, "neurons")
    assert set(table["metric"].to_pylist()) == {"activation_sum", own_metric.name}
    description = table.schema.field("metric").metadata[b"description"].decode()
    assert "mean_activation (mean activation)" in description
    page = (output / "report.html").read_text()
    data: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["metrics"][own_metric.name] == {"title": "mean activation", "caption": "active everywhere, outgoing"}
    assert list(data["metrics"]) == ["activation_sum", own_metric.name]
    assert data["first_metric"] == "activation_sum"
    assert data["recurring"][own_metric.name]
    assert own_metric.name in data["heat"]
    assert all(own_metric.name in shown["rankings"] for shown in data["shown"])


def test_a_metric_that_is_not_registered_is_shown_by_its_name() -> None:
    texts = legend({"bygone_metric", "activation_precision"}, {3: "conv2_1", 9: "conv4_2"}, ExplainSettings())
    assert list(texts["metrics"]) == ["activation_precision", "bygone_metric"]
    assert texts["metrics"]["bygone_metric"] == {"title": "bygone metric", "caption": ""}
    assert texts["metrics"]["activation_precision"]["caption"] == "steady under noise"
    # Influence comes first, wherever it stands.
    assert texts["first_metric"] == "activation_precision"
    assert legend({"activation_precision", "influence"}, {3: "conv2_1"}, None)["first_metric"] == "influence"
    assert texts["layers"][3] == {"colour": "#ff463c", "width": 1}
    assert legend(set(), {}, None)["first_metric"] == ""


def test_layers_of_other_networks_have_colours_by_their_order() -> None:
    names = {5: "layer1.1.conv2", 10: "layer2.1.conv2", 15: "layer3.1.conv2", 20: "layer4.1.conv2"}
    colours = [style["colour"] for style in legend(set(), names, None)["layers"].values()]
    assert len(set(colours)) == 4


def test_an_unknown_metric_is_refused(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["bag", "--output", str(tmp_path / "out"), "--metrics", "mean_activation"])
    assert "invalid choice: 'mean_activation'" in capsys.readouterr().err
