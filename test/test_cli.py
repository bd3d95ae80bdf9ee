"""The command `explain-cnn`."""

from __future__ import annotations

import importlib
import pickle
import sys
from types import SimpleNamespace

import pytest

from explain_cnn_ros import cli


def test_lists_its_commands(capsys):
    assert cli.main([]) == cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in cli.COMMANDS)


def test_an_unknown_command_names_those_that_exist(capsys):
    assert cli.main(["analyse"]) == 2
    printed = capsys.readouterr().err
    assert "no command 'analyse'" in printed
    assert "analyze" in printed


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_describes_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_arguments_and_exit_status_are_passed_on(name, monkeypatch):
    received = []
    stand_in = SimpleNamespace(main=lambda *arguments: received.append(arguments) or 7)
    monkeypatch.setattr(importlib, "import_module", {cli.COMMANDS[name].module: stand_in}.__getitem__)
    assert cli.main([name, "--output", "x"]) == 7
    assert received[0][0] == ["--output", "x"]
    assert received[0][1:] == ((cli.make_encoder,) if name == "analyze" else ())


def test_a_missing_package_is_named_with_its_cure(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for module in [name for name in sys.modules if name.startswith("explain_cnn_ros.analysis")]:
        monkeypatch.delitem(sys.modules, module)
    assert cli.main(["analyze", "--help"]) == 1
    assert "needs the Python package pyarrow: pip install 'explain_cnn_ros[analysis]'" in capsys.readouterr().err


def test_a_broken_installation_is_not_hidden(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "broken", cli.Command("explain_cnn_ros.nowhere", "Broken."))
    with pytest.raises(ModuleNotFoundError, match=r"explain_cnn_ros\.nowhere"):
        cli.main(["broken"])


def test_the_encoder_travels_to_other_processes():
    assert pickle.loads(pickle.dumps(cli.make_encoder)) is cli.make_encoder


def test_without_ros_there_is_no_encoder(monkeypatch, thin_classifier):
    monkeypatch.setitem(sys.modules, "rclpy.serialization", None)
    monkeypatch.delitem(sys.modules, "explain_cnn_ros.ros.encoding", raising=False)
    assert cli.make_encoder(thin_classifier) is None
