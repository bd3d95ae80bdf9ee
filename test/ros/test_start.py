"""Mistakes in what users give at the start. A command names the mistake in one line and ends with status 1."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from explain_cnn_ros.ros.error_texts import one_line

pytestmark = [pytest.mark.ros, pytest.mark.timeout(240)]

NODE, BLACK_BOX = "explain_cnn_ros.ros.node", "explain_cnn_ros.ros.black_box.node"
STATUS, RECORDER = "explain_cnn_ros.ros.status", "explain_cnn_ros.ros.recorder"


@pytest.mark.parametrize(
    ("module", "arguments", "name", "said"),
    [
        (NODE, ["-p", "threshold:=high"], "explain_node", "'threshold' to 'high' of type 'STRING', expecting type"),
        (BLACK_BOX, ["-p", "before:=soon"], "black_box", "'before' to 'soon' of type 'STRING', expecting type"),
        (BLACK_BOX, ["-p", "before:=-1"], "black_box", "before"),
        (BLACK_BOX, ["-p", "use_sim_time:=1"], "black_box", "'use_sim_time' to '1' of type 'INTEGER', expecting type"),
        (BLACK_BOX, ["-p", "topics:=/my-odom"], "black_box", "/my-odom"),
        (BLACK_BOX, ["-p", "node:=my node"], "black_box", "my node"),
        (BLACK_BOX, ["-r", "image:=/my-camera/image"], "black_box", "/my-camera/image"),
        (BLACK_BOX, ["-r", "__node:=my-box"], "black_box", "my-box"),
        (BLACK_BOX, ["-r", "__ns:=/my-robot"], "black_box", "my-robot"),
        (BLACK_BOX, ["--params-file", "nowhere.yaml"], "black_box", "nowhere.yaml"),
        (BLACK_BOX, ["--params-file", "broken.yaml"], "black_box", "broken.yaml"),
        (BLACK_BOX, ["--nonsense"], "black_box", "--nonsense"),
        (STATUS, ["--", "--node", "my-robot"], "status", "'/my-robot/classification'"),
        (STATUS, ["-r", "a:=/b-c"], "status", "/b-c"),
        (RECORDER, ["--", "--output", "out", "--image", "/a b"], "record_explanations", "'/a b'"),
        (RECORDER, ["-r", "a:=/b-c", "--", "--output", "out"], "record_explanations", "/b-c"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(graph, tmp_path, module, arguments, name, said):
    (tmp_path / "broken.yaml").write_text("- [")
    own = ["-p", f"folder:={tmp_path}/box"] if module == BLACK_BOX else []
    process = graph.start("--ros-args", *own, *arguments, module=module)
    assert process.wait(100) == 1, graph.log
    assert "Traceback" not in graph.log
    (line,) = [line for line in graph.log.splitlines() if line.startswith(f"{name}: ")]
    assert said in line


def test_topics_may_be_separated_by_spaces(graph, tmp_path):
    given = ("-p", f"folder:={tmp_path}/box", "-p", "topics:=/odom /cmd_vel", "-p", "before:=5")
    process = graph.start("--ros-args", *given, module=BLACK_BOX)
    graph.wait_for(lambda: graph.node.count_publishers("/black_box/recorded"), "the black box")
    assert graph.stop(process) == 0, graph.log


def test_an_error_of_rclpy_in_one_line():
    text = "failed to initialize rcl: Couldn't parse: '-r a:=/b-c', at ./src/rcl/arguments.c:343, at /ws/x.c:7"
    assert one_line(RuntimeError(text)) == "failed to initialize rcl: Couldn't parse: '-r a:=/b-c'"
    assert one_line(ValueError("Invalid topic name:\n  '/a b'\n     ^")) == "Invalid topic name: '/a b'"
