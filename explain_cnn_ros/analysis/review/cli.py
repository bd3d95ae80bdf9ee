"""Shows the windows of an analysis one after another, the most informative first, and stores your answers as labels.

    explain-cnn review OUT

OUT is the --output of `analyze`. Prints the address of a page that only browsers of this machine can open. Each window
has one key: P or the right arrow for a person, N or the left arrow for nobody, S or the space bar to skip, Z or
Backspace to take the last answer back. Each answer is on the disk before the next window is shown. Ctrl-C ends the
review; run the command again to continue it. The labels file is one for `analyze --labels`.

Exit status: 0 all windows have an answer; 1 nothing can be reviewed; 2 wrong arguments; 130 interrupted; 143 ended by
SIGTERM. Answers are stored in all cases.
"""

from __future__ import annotations

import argparse
import errno
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread

from explain_cnn_ros.analysis.review.labels_writer import Answer, LabelsWriter
from explain_cnn_ros.analysis.review.queue import ReviewQueue, build_queue
from explain_cnn_ros.analysis.review.recordings import Recordings
from explain_cnn_ros.analysis.review.server import ReviewServer
from explain_cnn_ros.analysis.review.session import ReviewSession
from explain_cnn_ros.analysis.review.shelf import PictureShelf
from explain_cnn_ros.analysis.review.stored import stored_pictures
from explain_cnn_ros.analysis.review.windows import ReviewedAnalysis, ReviewError, read_analysis
from explain_cnn_ros.files import reason, visible

#: Name of the labels file in the output of the analysis, unless an argument names another.
LABELS = "review_labels.csv"

#: Time between two looks at the state of the review, in seconds.
_POLL = 0.2


def parser() -> argparse.ArgumentParser:
    """Create the parser."""
    result = argparse.ArgumentParser(
        prog="explain-cnn review", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("output", metavar="OUT", type=Path, help="Output of the analysis.")
    result.add_argument(
        "--labels", metavar="CSV", type=Path, help=f"Labels file; an existing one is continued [OUT/{LABELS}]."
    )
    result.add_argument("--count", type=int, default=100, help="Maximum number of windows [%(default)s].")
    result.add_argument("--port", type=int, default=0, help="Port of the page; 0 for any free one [%(default)s].")
    result.add_argument("--open", action="store_true", help="Open the page in the browser.")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with arguments (None for those of the process), and return its exit status."""
    command = parser()
    arguments = command.parse_args(argv)
    if arguments.count < 1:
        command.error(f"--count is {arguments.count}: it must be at least 1")
    if not 0 <= arguments.port <= 65535:
        command.error(f"--port is {arguments.port}: it must be between 0 and 65535")
    try:
        analysis = read_analysis(arguments.output)
        labels = LabelsWriter(arguments.labels or arguments.output / LABELS)
        with closing(Recordings(analysis)) as recordings:
            return _review(arguments, analysis, labels, recordings)
    except ReviewError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _review(
    arguments: argparse.Namespace, analysis: ReviewedAnalysis, labels: LabelsWriter, recordings: Recordings
) -> int:
    stored = stored_pictures(analysis.output) if recordings.missing else {}
    queue = build_queue(analysis, labels, recordings.starts, stored, arguments.count)
    for note in labels.notes:
        _say(note)
    for line in _left_out(queue, recordings):
        _say(line)
    if not queue.windows:
        return _nothing(analysis, labels, queue)
    shelf = PictureShelf(queue.windows, recordings, stored, analysis.input_size)
    session = ReviewSession(queue.windows, shelf, labels)
    try:
        server = ReviewServer(session, arguments.port)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        cause = "another program uses it" if taken else reason(error)
        raise ReviewError(
            f"port {arguments.port} cannot be used ({cause}): give another --port, or 0 for any free one"
        ) from error
    with closing(shelf), server:
        shelf.start()
        interrupted = _serve(server, arguments.open)
    if session.failed:
        _say(f"{session.failed} windows were left out, because their frames could not be read")
    print(_summary(analysis, labels), flush=True)
    return 130 if interrupted and not session.finished else 0


def _serve(server: ReviewServer, open_browser: bool) -> bool:
    """Serve the review until a page or Ctrl-C ends it, and return whether it was Ctrl-C."""
    session = server.session
    serving = Thread(target=server.serve_forever, args=(_POLL,), name="server", daemon=True)
    serving.start()
    said = False
    try:
        print(f"open {server.address} in a browser of this machine; Ctrl-C ends the review", flush=True)
        if open_browser and not webbrowser.open(server.address):
            _say("no browser could be started: open the address yourself")
        while not session.ended.wait(_POLL):
            if session.finished and not said:
                said = True
                print("all windows have an answer: end the review in the page, or with Ctrl-C", flush=True)
    except KeyboardInterrupt:
        return True
    finally:
        # The answer that is being stored is stored, and is part of the summary.
        session.close()
        server.shutdown()
    return False


def _left_out(queue: ReviewQueue, recordings: Recordings) -> list[str]:
    """Return a sentence about each recording that is not there, and about windows that cannot have labels."""
    lines = []
    shown = {window.source for window in queue.windows}
    for source, why in recordings.missing.items():
        if count := queue.missing.get(source, 0):
            lines.append(f"{why}; {count} of its windows are left out")
        elif source in shown:
            lines.append(f"{why}; its windows are shown from the pictures of the analysis")
    if queue.unclocked:
        lines.append(f"{queue.unclocked} windows that were recorded before the clock was set are left out")
    return lines


def _nothing(analysis: ReviewedAnalysis, labels: LabelsWriter, queue: ReviewQueue) -> int:
    """Say why no window is shown, and return the exit status."""
    if not len(analysis.windows):
        raise ReviewError(f"nothing to review: no frame was decided in {visible(analysis.output)}")
    if queue.missing or queue.unclocked:
        raise ReviewError(
            "nothing to review: the frames are not there: run the command in the folder in which `analyze` was run, "
            "with the recordings at their paths"
        )
    print("nothing is left to review: all windows have an answer or a label")
    print(_summary(analysis, labels))
    return 0


def _summary(analysis: ReviewedAnalysis, labels: LabelsWriter) -> str:
    """Return the numbers of labels in the file, and the command that uses them."""
    counts = labels.counts()
    persons, nobodies, skipped = (counts[answer] for answer in Answer)
    total = persons + nobodies
    text = f"{total} labels in {visible(labels.path)} ({persons} person, {nobodies} nobody, {skipped} skipped)"
    if not total:
        return text
    inputs = [str(path) for path in analysis.inputs[:3]] + (["..."] if len(analysis.inputs) > 3 else [])
    output = analysis.output.with_name(analysis.output.name + "_2")
    words = [*inputs, "--output", str(output), "--labels", str(labels.path)]
    next_command = "explain-cnn analyze " + " ".join(shlex.quote(word) if word != "..." else word for word in words)
    return f"{text}\nnext: {visible(next_command)} (and the other arguments as before)"


def _say(text: str) -> None:
    print(f"review: {visible(text)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
