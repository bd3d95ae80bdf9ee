"""An analysis from its beginning to its end: recording by recording, part by part; interrupted and resumed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from explain_cnn_ros.analysis import provenance, recording, report, results
from explain_cnn_ros.analysis.engine import Analyzer, Encoder
from explain_cnn_ros.analysis.labels import Label
from explain_cnn_ros.analysis.parts import PART_FRAMES, PartStore
from explain_cnn_ros.analysis.prefetch import decoded
from explain_cnn_ros.analysis.settings import AnalysisSettings
from explain_cnn_ros.analysis.sources import Source, SourceError, open_source
from explain_cnn_ros.classifier import PersonClassifier

MANIFEST, PARTS = "analysis.json", "parts"


class AnalysisError(Exception):
    """An analysis cannot begin; the text names the cause and the cure."""


@dataclass(frozen=True)
class Job:
    """What is to be analysed.

    inputs: recordings.
    output: the folder for the results.
    weights: of the classifier; None for those that ship with the package.
    """

    inputs: tuple[Path, ...]
    output: Path
    settings: AnalysisSettings
    labels: tuple[Label, ...] = ()
    weights: Path | None = None
    device: str = "auto"


@dataclass
class Outcome:
    """How an analysis ended.

    problems: what could not be read or written, a sentence each.
    complete: every recording was read to its end.
    """

    summary: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    complete: bool = False
    interrupted: bool = False


class Progress:
    """Told what goes on; does nothing by itself."""

    def begin(self, total: int, done: int) -> None:
        """How many frames there may be, and how many were analysed before."""

    def advance(self, frames: int, explained: int) -> None:
        """So many more are analysed."""

    def say(self, text: str) -> None:
        """Something that people want to know."""

    def end(self) -> None:
        """No more frames."""


EncoderFactory = Callable[[PersonClassifier], Encoder | None]
Distribute = Callable[[Job, list[tuple[int, Source]], PartStore, Progress, Outcome], None]


def run(
    job: Job,
    resume: bool = False,
    progress: Progress | None = None,
    make_encoder: EncoderFactory = lambda classifier: None,
    distribute: Distribute | None = None,
) -> Outcome:
    """Analyse, and write tables, recording and report.

    Ctrl-C ends it with what there is by then; `resume` goes on from there, also after a kill.

    Args:
        make_encoder: makes ROS messages of the results, for the recording; None where there is no ROS.
        distribute: does the work elsewhere; None: here.

    Raises:
        AnalysisError: there is nothing to analyse, or the output belongs to another analysis.
    """
    progress = progress or Progress()
    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    try:
        classifier = PersonClassifier.load(job.weights, job.device)
        analyzer = Analyzer(classifier, job.settings, job.labels, make_encoder(classifier))
    except (OSError, ValueError, RuntimeError) as error:
        raise AnalysisError(str(error)) from error
    manifest = _begin(job, classifier, resume)
    outcome = Outcome()
    sources = _open(job, outcome)
    store = PartStore(job.output / PARTS)
    try:
        done = sum(PART_FRAMES * len(store.numbers(i)) for i, _ in sources)
        progress.begin(sum(source.total for _, source in sources), done)
        if distribute is not None:
            distribute(job, sources, store, progress, outcome)
        else:
            for index, source in sources:
                _analyse(analyzer, index, source, store, progress)
        outcome.complete = all(store.finished(i) is not None for i, _ in sources)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except OSError as error:
        outcome.problems.append(
            f"{job.output}: {error.strerror or error}: what was analysed by then is kept; free some space and go on "
            "with --resume"
        )
    finally:
        progress.end()
        for _, source in sources:
            source.close()
    _end(job, manifest, sources, store, outcome, progress)
    return outcome


def _begin(job: Job, classifier: PersonClassifier, resume: bool) -> dict[str, Any]:
    """Make the output, or see whether it is of the same analysis; what is known from the start."""
    same = {
        "settings": job.settings.to_dict(),
        "inputs": [str(path) for path in job.inputs],
        "labels": json.loads(json.dumps([asdict(label) for label in job.labels])),
        "model": classifier.model_hash,
    }
    path = job.output / MANIFEST
    if path.is_file():
        if not resume:
            raise AnalysisError(
                f"{job.output} holds an analysis already: give another --output, or --resume to go on with it"
            )
        before = json.loads(path.read_text())
        for key, value in same.items():
            if before.get(key) != value:
                raise AnalysisError(
                    f"{job.output} was made with other {key} ({before.get(key)}): the same ones are needed to resume, "
                    "or another --output"
                )
    elif job.output.exists() and any(job.output.iterdir()):
        raise AnalysisError(f"{job.output} is not empty, and holds no analysis: give another --output")
    manifest = same | {
        "threshold": job.settings.threshold or classifier.threshold,
        "device": str(classifier.device),
        "threads": torch.get_num_threads(),
        "versions": provenance.versions(),
        "status": "running",
    }
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        _write_manifest(job.output, manifest)
    except OSError as error:
        raise AnalysisError(f"{job.output} cannot be written: {error.strerror or error}") from error
    return manifest


def _write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    partial = output / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=1) + "\n")
    os.replace(partial, output / MANIFEST)


def _open(job: Job, outcome: Outcome) -> list[tuple[int, Source]]:
    """The recordings that can be read, with their numbers."""
    sources: list[tuple[int, Source]] = []
    for index, path in enumerate(job.inputs):
        try:
            sources.append((index, open_source(path, job.settings)))
        except SourceError as error:
            outcome.problems.append(str(error))
    if not sources:
        (job.output / MANIFEST).unlink()
        raise AnalysisError("; ".join(outcome.problems))
    return sources


def chosen_frames(source: Source, settings: AnalysisSettings) -> frozenset[int]:
    """Numbers of the first frames at or after the times of `explain_at`."""
    if not settings.explain_at:
        return frozenset()
    times = sorted(settings.explain_at)
    chosen = set()
    for entry in source.entries():
        while times and (entry.log_time - source.start) / 1e9 >= times[0]:
            chosen.add(entry.index)
            times.pop(0)
        if not times:
            break
    return frozenset(chosen)


def _analyse(analyzer: Analyzer, index: int, source: Source, store: PartStore, progress: Progress) -> None:
    """What is missing of one recording."""
    if store.finished(index) is not None:
        return
    first = next(number for number in itertools.count() if not store.has(index, number))
    chosen = chosen_frames(source, analyzer.settings)
    frames = decoded(source.entries(first * PART_FRAMES))
    total = first * PART_FRAMES
    try:
        for number in itertools.count(first):
            part = analyzer.analyze(source.name, source.start, itertools.islice(frames, PART_FRAMES), chosen)
            count = part["frames"].num_rows
            if count:
                store.write(index, number, part)
                progress.advance(count, count - part["frames"]["trigger"].null_count)
            total += count
            if count < PART_FRAMES:
                break
    finally:
        frames.close()
    store.finish(index, total, source.problems)


def _end(
    job: Job,
    manifest: dict[str, Any],
    sources: Sequence[tuple[int, Source]],
    store: PartStore,
    outcome: Outcome,
    progress: Progress,
) -> None:
    """Tables, recording and report of what there is."""
    for index, source in sources:
        finished = store.finished(index)
        outcome.problems += [f"{source.name}: {text}" for text in (finished or {}).get("problems", source.problems)]
    outcome.summary = results.summary(store)
    outcome.problems += outcome.summary.pop("problems")
    if not outcome.summary["frames"] and outcome.complete:
        outcome.problems.append("there is no frame within the given times")
    status = "complete" if outcome.complete else "interrupted"
    manifest |= {"status": status, "summary": outcome.summary, "problems": outcome.problems}
    manifest["fingerprints"] = {source.name: provenance.fingerprint(Path(source.name)) for _, source in sources}
    try:
        progress.say("writing tables, recording and report")
        results.write_tables(store, job.output)
        if not recording.write_recording(store, job.output):
            progress.say("no recording is written: ROS is not here to make its messages")
        report.write_report(store, manifest, job.output)
        _write_manifest(job.output, manifest)
        if outcome.complete:
            store.remove()
    except OSError as error:
        outcome.complete = False
        outcome.problems.append(
            f"{job.output}: {error.strerror or error} while the results were written: free some space and go on with "
            "--resume"
        )
        shutil.rmtree(job.output / f"{recording.FOLDER}.partial", ignore_errors=True)
