"""The messages: every field explains itself, the constants are the library's names, and they cross the wire."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTERFACES = sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv")])

rclpy = pytest.importorskip("rclpy")
msg = pytest.importorskip("explain_cnn_ros.msg")
srv = pytest.importorskip("explain_cnn_ros.srv")


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_every_field_is_documented(path: Path):
    """The line above a field ends a comment; constants may share the one above their group."""
    above = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        is_constant = re.match(r"\S+ [A-Z0-9_]+ *=", line) is not None
        if line.strip() and not line.startswith(("#", "---")):
            shares = is_constant and re.match(r"\S+ [A-Z0-9_]+ *=", above)
            assert above.startswith("# ") or shares, f"{path.name}:{number}: nothing explains '{line}'"
        above = line


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_every_interface_says_what_it_is_for(path: Path):
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)
def test_every_interface_is_generated(path: Path):
    if path.suffix == ".msg":
        getattr(msg, path.stem)()
    else:
        getattr(srv, path.stem).Request()
        getattr(srv, path.stem).Response()


def constants(message: type, prefix: str) -> set[str]:
    """The values of a message's constants that start with prefix."""
    lines = (ROOT / "msg" / f"{message.__name__}.msg").read_text(encoding="utf-8").splitlines()
    names = [found[1] for line in lines if (found := re.match(rf"string ({prefix}\w+) *=", line))]
    return {getattr(message, name) for name in names}


def test_constants_are_the_names_that_the_library_uses():
    pytest.importorskip("torch")
    from explain_cnn_ros.analysis.settings import CHOSEN, LOW_CONFIDENCE, PERIODIC, WRONG
    from explain_cnn_ros.explain.perturbation import NOISES
    from explain_cnn_ros.explain.settings import ACTIVATIONS, DECONVNET_STARTS, DECONVNETS, OUTPUTS, PROOFS, WEIGHTS
    from explain_cnn_ros.model.precision import PRECISIONS
    from tools.document import own_metrics

    assert constants(msg.LayerRanking, "METRIC_") == {entry.name for entry in own_metrics()}
    assert constants(msg.ExplainSettings, "NOISE_") == set(NOISES)
    assert constants(msg.ExplainSettings, "OUTPUT_") == set(OUTPUTS)
    assert constants(msg.ExplainSettings, "ACTIVATION_") == set(ACTIVATIONS)
    assert constants(msg.ExplainSettings, "WEIGHTS_") == set(WEIGHTS)
    assert constants(msg.ExplainSettings, "DECONVNET_START_") == set(DECONVNET_STARTS)
    assert constants(msg.ExplainSettings, "DECONVNET_") == {*DECONVNETS, *DECONVNET_STARTS}
    assert constants(msg.ExplainSettings, "PROOF_") == set(PROOFS)
    assert constants(msg.ExplainSettings, "COMPUTE_PRECISION_") == set(PRECISIONS) - {"auto"}
    assert constants(msg.Explanation, "TRIGGER_") == {"service", WRONG, LOW_CONFIDENCE, CHOSEN, PERIODIC}


def test_a_ranked_neuron_has_one_patch_at_most():
    with pytest.raises(AssertionError):
        msg.RankedNeuron(patch=[msg.Patch(), msg.Patch()])


def example() -> msg.Explanation:
    """An explanation with something in every nested message, and with what is special: negative and empty."""
    dead = msg.RankedNeuron(layer=5, channel=255, score=-0.25, silenced=-1e-300)
    alive = msg.RankedNeuron(layer=5, channel=7, score=1e-300, patch=[msg.Patch(x=0, y=4, width=24, height=25)])
    ranking = msg.LayerRanking(
        metric=msg.LayerRanking.METRIC_ACTIVATION_PRECISION,
        layer=5,
        layer_name="conv3_1",
        stability=0.25,
        unstable=True,
        neurons=[alive, dead],
    )
    explanation = msg.Explanation(
        trigger=msg.Explanation.TRIGGER_LOW_CONFIDENCE,
        region=msg.Region(x=-8, y=-16, width=64, height=128, probability=0.5),
        settings=msg.ExplainSettings(seed=-(2**62), layers=[3, 5, 9], metrics=["weight_sum"]),
        rankings=[ranking],
        proofs=[msg.Proof(metric=msg.LayerRanking.METRIC_INFLUENCE, neurons=35, share=-0.1, disagrees=True)],
        set_similarity_by_layer=[msg.LayerSimilarity(layer=5, jaccard=0.5)],
        timings=[msg.Timing(step="total", seconds=0.125)],
        model="0123456789ab",
    )
    explanation.header.stamp.sec = 7
    explanation.header.frame_id = "camera"
    return explanation


ANSWER = textwrap.dedent(
    """
    import contextlib
    import rclpy
    from explain_cnn_ros.msg import Explanation

    rclpy.init()
    node = rclpy.create_node("answer")
    publisher = node.create_publisher(Explanation, "back", 1)
    node.create_subscription(Explanation, "there", publisher.publish, 1)
    print("ready", flush=True)
    # With a timeout: a spin without one misses a SIGTERM that comes just after a callback, and waits for ever.
    with contextlib.suppress(rclpy.executors.ExternalShutdownException):
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=0.5)
    """
)


@pytest.mark.ros
def test_an_explanation_crosses_dds_to_another_process_and_back(monkeypatch: pytest.MonkeyPatch, domain: int):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    sent, received = example(), []
    answer = subprocess.Popen([sys.executable, "-c", ANSWER], stdout=subprocess.PIPE, text=True)
    context = rclpy.Context()
    try:
        assert answer.stdout.readline() == "ready\n"
        context.init()
        node = rclpy.create_node("question", context=context)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(node)
        publisher = node.create_publisher(msg.Explanation, "there", 1)
        node.create_subscription(msg.Explanation, "back", received.append, 1)
        deadline = time.monotonic() + 60
        # Until both have found each other, what is published is lost.
        while not received and time.monotonic() < deadline:
            publisher.publish(sent)
            executor.spin_once(timeout_sec=0.1)
    finally:
        context.try_shutdown()
        answer.terminate()
        answer.wait(60)
    assert received, "nothing came back within 60 s"
    assert received[0] == sent
