"""An analysis from its beginning to its end, recording by recording and part by part. It can be resumed."""

from __future__ import annotations

import errno
import itertools
import shutil
from contextlib import closing
from typing import Any

import torch

from explain_cnn_ros.analysis import manifest as manifests
from explain_cnn_ros.analysis import report, results
from explain_cnn_ros.analysis.causes.causes import find_causes
from explain_cnn_ros.analysis.engine import Analyzer
from explain_cnn_ros.analysis.inputs import NO_LABEL, Inputs, finish, reading, recording_of, unchanged
from explain_cnn_ros.analysis.job import (
    AnalysisError,
    Distribute,
    EncoderFactory,
    Job,
    Outcome,
    ProgressReporter,
    no_encoder,
)
from explain_cnn_ros.analysis.parts import PART_FRAMES, DamagedPartError, PartStore
from explain_cnn_ros.analysis.prefetch import decoded
from explain_cnn_ros.analysis.recording_labels import LabelsBySource
from explain_cnn_ros.analysis.report_content import NEURONS
from explain_cnn_ros.analysis.silencing import silence_wrong_way, wrong_way_summary
from explain_cnn_ros.bags.names import printable
from explain_cnn_ros.bags.sources import Source, SourceError
from explain_cnn_ros.bags.writer import message_definitions, partial_folder, write_recording
from explain_cnn_ros.explain.network_adapter import PERSON
from explain_cnn_ros.files import reason, require_folder
from explain_cnn_ros.scan.classifier import PersonClassifier


def run(
    job: Job,
    resume: bool = False,
    progress: ProgressReporter | None = None,
    make_encoder: EncoderFactory = no_encoder,
    distribute: Distribute | None = None,
) -> Outcome:
    """Analyse the inputs of a job, and write tables, recording and report.

    After Ctrl-C, the results of the frames that were analysed until then are written. The analysis is complete when all
    inputs were read to their end; parts stay until then. An input that cannot be opened makes it incomplete, and the
    earlier results of that input are part of the output.

    Args:
        job: The job.
        resume: Whether an analysis in the output is continued, if there is one. If it is complete, it is left as it is.
        progress: Is notified of the progress; None for nobody.
        make_encoder: Creates the encoder of the results as ROS messages, for the recording.
        distribute: Analyses the inputs elsewhere; None for this process.

    Raises:
        AnalysisError: There is nothing to analyse, or the output belongs to another analysis.
    """
    progress = progress or ProgressReporter()
    try:
        require_folder(job.output)
    except OSError as error:
        raise AnalysisError(f"--output cannot be used: {error}") from error
    analyzer = _analyzer(job, make_encoder)
    previous = manifests.previous_manifest(job, analyzer.classifier.model_hash, resume)
    if previous is not None and previous.get("status") == manifests.COMPLETE:
        return _complete_already(job, previous, progress)
    outcome = Outcome()
    with closing(Inputs(job)) as inputs:
        if not inputs.sources and not PartStore.has_results(job.parts):
            raise AnalysisError("; ".join(inputs.missing.values()))
        for note in inputs.notes:
            progress.say(note)
        manifest, store = _begin(job, analyzer, previous)
        manifest["starts"] |= {source.name: source.start for source in inputs.sources.values()}
        if damaged := store.discard_damaged():
            progress.say(f"{damaged} parts in {job.parts} are damaged or missing: their frames are analysed again")
        _analyze_inputs(job, analyzer, inputs, store, progress, outcome, distribute)
    manifest["fingerprints"] = inputs.fingerprints(store, manifest["fingerprints"])
    outcome.problems += inputs.problems(store)
    encodes = None if make_encoder is no_encoder else analyzer.encodes
    _conclude(job, encodes, manifest, store, progress, outcome)
    return outcome


def _analyzer(job: Job, make_encoder: EncoderFactory) -> Analyzer:
    if job.settings.threads:
        torch.set_num_threads(job.settings.threads)
    try:
        classifier = PersonClassifier.load(job.weights, job.device)
        labels = LabelsBySource(job.labels, map(printable, job.inputs))
        return Analyzer(classifier, job.settings, labels, make_encoder(classifier))
    except (OSError, ValueError, RuntimeError) as error:
        raise AnalysisError(reason(error) if isinstance(error, OSError) else str(error)) from error


def _complete_already(job: Job, previous: dict[str, Any], progress: ProgressReporter) -> Outcome:
    """Return the outcome of an analysis that was complete before."""
    # The process may have been killed while it removed the parts.
    shutil.rmtree(job.parts, ignore_errors=True)
    progress.say(f"the analysis in {job.output} is complete already: nothing is left to do")
    effects = previous.get("wrong_way", {}).get("effects", [])
    reported = (job.output / report.NAME).is_file()
    return Outcome(
        previous["summary"],
        previous["problems"],
        complete=True,
        effects=effects,
        causes=previous.get("causes", {}),
        reported=reported,
    )


def _begin(job: Job, analyzer: Analyzer, previous: dict[str, Any] | None) -> tuple[dict[str, Any], PartStore]:
    """Create the output, or prepare that of the analysis that is resumed."""
    manifest = {"fingerprints": {}, "starts": {}} | (previous or {}) | manifests.new_manifest(job, analyzer)
    try:
        manifests.write_manifest(job.output, manifest)
        return manifest, PartStore(job.parts)
    except OSError as error:
        raise AnalysisError(f"--output cannot be written: {reason(error)}") from error


def _analyze_inputs(
    job: Job,
    analyzer: Analyzer,
    inputs: Inputs,
    store: PartStore,
    progress: ProgressReporter,
    outcome: Outcome,
    distribute: Distribute | None,
) -> None:
    """Analyse the rest of the open inputs, and silence neurons when all inputs were read to their end."""
    unfinished = inputs.unfinished(store)
    try:
        progress.begin(*inputs.progress(store))
        if distribute is None:
            for number, source in unfinished:
                try:
                    _analyze(analyzer, number, source, store, progress)
                except SourceError as error:
                    inputs.lose(number, str(error))
        elif unfinished:
            distribute(job, unfinished, store, progress, outcome)
        if inputs.finished(store):
            progress.end()
            silence_wrong_way(analyzer, store, progress)
            outcome.causes = find_causes(analyzer, store, progress).to_dict()
            outcome.complete = True
    except KeyboardInterrupt:
        outcome.interrupted = True
    except DamagedPartError as error:
        outcome.problems.append(_discarded(store, error))
    except OSError as error:
        outcome.problems.append(
            f"{reason(error)}: the frames that were analysed before are in the results; {_cure(error)} and go on with "
            "--resume"
        )
    finally:
        progress.end()


def _analyze(analyzer: Analyzer, number: int, source: Source, store: PartStore, progress: ProgressReporter) -> None:
    """Analyse the rest of one input.

    Raises:
        SourceError: The input has gone, for instance because its disk was unmounted, or it has changed since a part of
            it was analysed.
        DamagedPartError: The last part that was analysed cannot be read.
        OSError: A part cannot be written.
    """
    first = next(part for part in itertools.count() if not store.has(number, part))
    stored = store.last_frame(number)
    if stored is not None and first * PART_FRAMES > stored.index + 1:
        # The last part ended with the recording, which may have grown since.
        first -= 1
    with reading(source):
        recording = recording_of(source, analyzer.settings, analyzer.labels)
    total = first * PART_FRAMES
    begin = total if stored is None else min(total, stored.index)
    rest = (entry for entry in unchanged(source, source.entries(begin), stored) if entry.index >= total)
    with closing(decoded(rest)) as frames:
        for part_number in itertools.count(first):
            with reading(source):
                part = analyzer.analyze(recording, itertools.islice(frames, PART_FRAMES))
            count = part["frames"].num_rows
            if count:
                store.write(number, part_number, part)
                progress.advance(count, count - part["frames"]["trigger"].null_count)
            total += count
            if count < PART_FRAMES:
                break
    finish(store, number, total, source)


def _conclude(
    job: Job,
    encodes: bool | None,
    manifest: dict[str, Any],
    store: PartStore,
    progress: ProgressReporter,
    outcome: Outcome,
) -> None:
    """Write tables, recording and report of the parts that exist. The parts are removed if they are all there.

    `encodes` is whether results are encoded as messages; see `_write_recording`.
    """
    while True:
        before = list(outcome.problems)
        try:
            _write_results(job, encodes, manifest, store, progress, outcome)
        except DamagedPartError as error:
            outcome.complete = False
            outcome.problems = [*before, _discarded(store, error)]
            continue
        except OSError as error:
            outcome.complete = False
            outcome.problems.append(
                f"the results could not be written: {reason(error)}: {_cure(error)} and go on with --resume"
            )
            shutil.rmtree(partial_folder(job.output / results.RECORDING), ignore_errors=True)
        return


def _write_results(
    job: Job,
    encodes: bool | None,
    manifest: dict[str, Any],
    store: PartStore,
    progress: ProgressReporter,
    outcome: Outcome,
) -> None:
    """Write the results of the parts that exist, once.

    Raises:
        DamagedPartError: A part cannot be read.
        OSError: A file cannot be written.
    """
    outcome.summary, problems = results.summarise(store)
    if not outcome.summary["frames"] and outcome.complete:
        problems.append("there is no frame within the given times")
    elif outcome.complete and _no_label_counts(job, outcome):
        problems.append(f"{NO_LABEL} that was analysed: compare the times of the labels with --start and --end")
    # Neurons that argue for another class did not push the decision about the person.
    wrong_way = wrong_way_summary(store, NEURONS if manifest["target"] == PERSON else 0)
    outcome.effects = wrong_way["effects"]
    progress.say("writing tables, recording and report")
    results.write_tables(store, job.output)
    problems += _write_recording(job, encodes, store, progress, outcome)
    outcome.problems += problems
    manifest |= {"status": _status(outcome), "summary": outcome.summary, "problems": outcome.problems}
    manifest |= {"wrong_way": wrong_way, "causes": outcome.causes}
    report.write_report(store, manifest, job)
    outcome.reported = True
    manifests.write_manifest(job.output, manifest)
    if outcome.complete:
        store.remove()


def _no_label_counts(job: Job, outcome: Outcome) -> bool:
    """Return whether there are labels, but no frame has one, and no problem in the outcome says so yet."""
    # A box in which nobody is, or in which decisions do not count, may have no decision in it.
    labels = [label for label in job.labels if label.person or label.box is None]
    counted = outcome.summary["labelled"] or outcome.summary["labelled_regions"]
    return bool(labels) and not counted and not any(NO_LABEL in problem for problem in outcome.problems)


def _write_recording(
    job: Job, encodes: bool | None, store: PartStore, progress: ProgressReporter, outcome: Outcome
) -> list[str]:
    """Write the recording, or say why there is none.

    Args:
        job: The job.
        encodes: Whether results are encoded as messages; None if nobody requested it.
        store: The store with the messages.
        progress: Is notified if there is no recording.
        outcome: The outcome, with its summary.

    Returns:
        A sentence if it failed.

    Raises:
        DamagedPartError: A part cannot be read.
        OSError: A file cannot be written.
    """
    try:
        count = write_recording(results.messages(store), job.output / results.RECORDING)
    except (OSError, DamagedPartError):
        raise
    except Exception as error:  # for instance a time that the format cannot hold; the other results do not need it
        shutil.rmtree(partial_folder(job.output / results.RECORDING), ignore_errors=True)
        return [f"no recording is written: {type(error).__name__}: {error}"]
    if count:
        return []
    if outcome.summary["frames"] == outcome.summary["errors"]:
        progress.say("no recording is written: no frame was decided")
    elif encodes is False:
        progress.say(
            "no recording is written: it needs ROS and the messages of this package, and they cannot be imported here"
        )
    elif encodes and message_definitions() is None:
        progress.say("no recording is written: the definitions of this package's messages (.msg) are not installed")
    return []


def _discarded(store: PartStore, error: DamagedPartError) -> str:
    """Remove a damaged part, and return a sentence about it."""
    store.discard(error.source, error.number)
    return f"{error}; its frames are missing in the results, and --resume analyses them again"


def _cure(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "free some space" if full or error.errno is None else "make it possible"


def _status(outcome: Outcome) -> str:
    if outcome.complete:
        return manifests.COMPLETE
    return manifests.INTERRUPTED if outcome.interrupted else manifests.INCOMPLETE
