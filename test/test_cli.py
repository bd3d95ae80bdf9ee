"""The command `explain-cnn`."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
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
    assert "needs the Python package pyarrow: call pip install '.[analysis]' in a checkout" in capsys.readouterr().err


def test_a_terminal_without_the_characters_of_a_name(tmp_path):
    (tmp_path / "named.py").write_text("def main(_):\n    print('stra\\u00dfe', chr(0xdce9))\n    return 0\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from explain_cnn_ros import cli\n"
        "cli.COMMANDS['named'] = cli.Command('named', '')\nsys.exit(cli.main(['named']))"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stra\\xdfe \\udce9\n", "")


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


#: A command that says what happens in it; `send` sends the process a signal.
SLOW = """
import os, signal, sys, time
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(5)
def say(text):
    print(text, flush=True)
{importing}
def main(arguments):
    {first}
    try:
        {running}
        say("went on")
    except KeyboardInterrupt:
        say("writing")
        {ending}
        say("written")
        return 130
    return 0
"""


def slow(tmp_path: Path, before: str = "", **parts: str) -> tuple[int, list[str], str]:
    """Run the command in a process of its own; return its status, and the lines of stdout, and stderr."""
    names = ("importing", "first", "running", "ending")
    (tmp_path / "slow.py").write_text(SLOW.format(**{name: parts.get(name, "pass") for name in names}))
    # Processes that a shell started in the background inherit that SIGINT is ignored.
    code = "import sys, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from explain_cnn_ros import cli\ncli.COMMANDS['slow'] = cli.Command('slow', '')\n"
    command = [sys.executable, "-c", f"{code}{before}\nsys.path.insert(0, {str(tmp_path)!r})\nsys.exit(cli.main())"]
    ended = subprocess.run([*command, "slow"], capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout.splitlines(), ended.stderr


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(
    ("parts", "said", "error"),
    [
        ({"importing": "send({})"}, [], "slow: interrupted\n"),
        # Some packages catch every exception when they are imported.
        ({"importing": "try: send({})\nexcept BaseException: say('swallowed')"}, [], "slow: interrupted\n"),
        ({"running": "send({})"}, ["writing", "written"], ""),
        ({"first": "send({})"}, [], "slow: interrupted\n"),
        (
            {"running": "send({})", "ending": "time.sleep(0.7); send('SIGINT')"},
            ["writing"],
            "slow: interrupted again, and ended at once\n",
        ),
        # `ros2 launch` passes on what the terminal has sent already.
        (
            {"running": "send({})", "ending": "os.kill(os.getpid(), signal.SIGINT)"},
            ["writing", "written"],
            "",
        ),
        # While Python ends, at the latest moment that code can see.
        (
            {
                "first": "import atexit; atexit.register(os.kill, os.getpid(), signal.SIGINT)",
                "running": "send({})",
            },
            ["writing", "written"],
            "",
        ),
    ],
)
def test_a_signal_ends_a_command_with_one_line(tmp_path, parts, said, error, name, status):
    filled = {key: part.format(repr(name)) for key, part in parts.items()}
    assert slow(tmp_path, **filled) == (status, said, error)


def test_signals_that_are_ignored_stay_ignored(tmp_path):
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    assert slow(tmp_path, ignore, running="os.kill(os.getpid(), signal.SIGINT)") == (0, ["went on"], "")


@pytest.fixture
def default_handlers():
    """The handlers of a new process: libraries that other tests use have handlers of their own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default_handlers")
def test_handlers_are_restored(monkeypatch):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    during = []
    stand_in = SimpleNamespace(main=lambda _: during.append(signal.getsignal(signal.SIGTERM)) or 0)
    monkeypatch.setattr(importlib, "import_module", lambda _: stand_in)
    assert cli.main(["train"]) == 0
    assert during != before[1:]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    # Only the main thread can handle signals.
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(cli.main(["train"])))
    thread.start()
    thread.join()
    assert statuses == [0]
