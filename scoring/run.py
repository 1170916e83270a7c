"""One run: inputs to chunks, chunks to readings, readings to the journal and on to the table."""

import hashlib
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import click
from tqdm import tqdm

from affect.card import ModelCard
from affect.faces import Faces
from affect.inputs import InputPicture
from affect.local.reading import LocalReading
from affect.local.table import TableError, TableWriter, check_suffix, open_writer
from affect.model_folders import model_folder, shipped_weights
from scoring.baseline import Baseline, Medians, Neutral, corrected
from scoring.chunks import Chunk, Mark, chunks
from scoring.events import Blinks, Event, save_events
from scoring.journal import Journal
from scoring.overlay import Overlay
from scoring.smoothing import Smoother
from scoring.sources import Position, Shard, SourceError, expected, shards
from scoring.workers import ChunkReader, Pool, Readings, ReadOptions

# The entries of a picture, and the picture itself unless the run was resumed.
Read: TypeAlias = tuple[list[LocalReading], InputPicture | None]
MEDIAN = "median"
SHOWN_ERRORS = 10
COUNTED_VIDEOS = 200  # more are not opened beforehand to see how many frames they have


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """What one run is asked to do; see `affectgan score --help`."""

    inputs: tuple[str, ...]
    out: Path
    model: Path | None = None
    device: str = "auto"
    faces: Faces = "largest"
    every: int = 1
    track: bool = False
    smooth_seconds: float | None = None
    baseline: str | None = None  # MEDIAN, or the path of a picture
    events: Path | None = None
    workers: int = 1
    ray: str | None = None
    pictures: Path | None = None
    resume: bool = False
    overwrite: bool = False
    progress: bool = True

    @property
    def folder(self) -> Path:
        """Of the model. Raises CardError."""
        return shipped_weights() if self.model is None else model_folder(self.model)

    @property
    def journal(self) -> Path:
        """The folder beside the table."""
        return self.out.with_name(self.out.name + ".journal")

    @property
    def reading(self) -> ReadOptions:
        """What the processes that read must know."""
        crops = self.pictures is not None
        return ReadOptions(str(self.folder), self.device, self.faces, self.track, crops)


@dataclass
class Summary:
    """The outcome of a run. `complete` is False when it was stopped."""

    pictures: int = 0
    faces: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)  # the first errors, in words
    complete: bool = True

    def add(self, entries: Sequence[LocalReading]) -> None:
        """Count the entries of a picture."""
        self.pictures += 1
        for entry in entries:
            if entry.error is None:
                self.faces += 1
                continue
            self.errors[entry.error] += 1
            if entry.error != "no_face" and len(self.said) < SHOWN_ERRORS:
                self.said.append(_sentence(entry))

    @property
    def broken(self) -> int:
        """Pictures that could not be read at all."""
        return self.errors.total() - self.errors["no_face"]


def _sentence(entry: LocalReading) -> str:
    """Why an input has no reading; many reasons name it themselves."""
    detail = entry.detail or ""
    return detail if detail.startswith(entry.input) else f"{entry.input}: {detail}"


@dataclass
class Stop:
    """Whether the user wants the run to end."""

    requested: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """As a signal handler: the first Ctrl-C ends the run, the second the program."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        click.echo("\nstopping; what was read is kept ...", err=True)


def score(options: ScoreOptions) -> Summary | None:
    """Score the inputs into the table; None when an earlier run did so to the end.

    Raises SourceError, TableError, JournalError and CardError for invalid input, before anything is
    read, and OSError when the disk is full or the like; files written so far stay.
    """
    all_shards = _checked(options)
    card = ModelCard.load(options.folder)
    baseline = None if options.baseline in (None, MEDIAN) else _neutral(options)
    journal = _journal(options, all_shards, card)
    if journal is None:
        return None
    summary = Summary()
    with ExitStack() as stack:
        stop = stack.enter_context(_stoppable())
        table = stack.enter_context(_table(options, card, journal))
        overlay = stack.enter_context(Overlay(options.pictures))
        bar = stack.enter_context(_bar(options, all_shards))
        read = chain(_replayed(journal), _now(options, all_shards, journal, stop))
        counted = _count(read, summary, bar)
        if options.baseline == MEDIAN:
            baseline, counted = _medians(counted, journal, options), _replayed(journal)
        events: list[Event] = []
        for entries, picture in _steps(counted, options, card, baseline, events):
            table.write(entries)
            overlay.add(picture, entries)
        if options.events is not None:
            save_events(events, options.events)
        summary.complete = not stop.requested
    if summary.complete:
        journal.remove()
    return summary


# -- before anything is read -----------------------------------------------------------------------


def _checked(options: ScoreOptions) -> list[Shard]:
    """What there is to score. Raises SourceError and TableError."""
    for path in (options.out, options.events):
        if path is not None:
            check_suffix(path)
            if not path.parent.is_dir():
                raise TableError(f"{path} cannot be written: there is no folder {path.parent}")
    if options.resume and options.overwrite:
        raise TableError("--resume goes on and --overwrite begins again; give one of them")
    all_shards = list(shards(options.inputs))
    if not all_shards:
        raise SourceError(f"nothing to score in {', '.join(options.inputs)}")
    if any(shard.kind == "webcam" for shard in all_shards) and (options.ray or options.resume):
        raise SourceError("a webcam is of this machine and this moment: no --ray, no --resume")
    if options.ray and options.pictures:
        raise SourceError("--pictures draws on what this machine reads: not together with --ray")
    return all_shards


def _journal(options: ScoreOptions, all_shards: Sequence[Shard], card: ModelCard) -> Journal | None:
    """A journal to add to, None when the run is complete already. Raises TableError, JournalError
    and OSError.
    """
    digest = hashlib.sha256(card.to_bytes())
    paths_digest = hashlib.sha256(
        "\n".join(path for shard in all_shards for path in shard.paths).encode()
    )
    run = {
        "inputs": list(options.inputs),
        "list of files": paths_digest.hexdigest(),
        "model": digest.hexdigest(),
        "faces": options.faces,
        "every": options.every,
        "track": options.track,
    }
    stopped = options.journal.exists()
    if options.resume and stopped:
        return Journal.resume(options.journal, run)
    existing = [
        path for path in (options.out, options.events) if path is not None and path.exists()
    ]
    if existing and options.resume:
        return None
    if (existing or stopped) and not options.overwrite:
        remedy = "a run into it was stopped: go on with --resume" if stopped else "go on elsewhere"
        name = existing[0] if existing else options.out
        raise TableError(f"{name} exists ({remedy}), or replace it with --overwrite")
    if stopped:
        Journal(options.journal).remove()
    return Journal.begin(options.journal, run)


def _neutral(options: ScoreOptions) -> Baseline:
    """The neutral face of a picture. Raises SourceError when it has none."""
    assert options.baseline is not None
    picture = InputPicture(options.baseline, Path(options.baseline))
    reader = ChunkReader(options.reading)
    ((entry, *_),) = reader(Chunk((picture,), Mark(0, {})))
    if entry.error is not None:
        raise SourceError(f"--baseline {options.baseline}: {entry.detail}")
    return Neutral(entry)


# -- reading ---------------------------------------------------------------------------------------


def _replayed(journal: Journal) -> Iterator[Read]:
    for entries in journal.replay():
        yield entries, None


def _now(
    options: ScoreOptions, all_shards: Sequence[Shard], journal: Journal, stop: Stop
) -> Iterator[Read]:
    """Read the remaining chunks into the journal, until the user stops it."""
    try:
        for chunk, readings in _engine(options, all_shards, journal.mark):
            journal.add(readings, chunk.mark)
            yield from zip(readings, chunk.pictures, strict=True)
            if stop.requested:
                return
    finally:
        journal.flush()


def _engine(
    options: ScoreOptions, all_shards: Sequence[Shard], mark: Mark | None
) -> Iterator[tuple[Chunk, Readings]]:
    """Chunks with their readings in order, from a mark on: by processes here, or by a cluster."""
    first, position = _left(mark)
    if options.ray is None:
        todo = _chunks(all_shards, options.every, first, position)
        yield from Pool(options.reading, options.workers).read(todo)
        return
    from scoring.cluster import Cluster, read_on_ray

    cluster = Cluster(options.ray, options.reading, options.workers)
    yield from read_on_ray(cluster, all_shards, options.every, first, position)


def _chunks(
    all_shards: Sequence[Shard], every: int, first: int, position: Position | None
) -> Iterator[Chunk]:
    for number in range(first, len(all_shards)):
        yield from chunks(number, all_shards[number], every=every, position=position)
        position = None


def _left(mark: Mark | None) -> tuple[int, Position | None]:
    """The first shard that is not done, and where to begin in it."""
    if mark is None:
        return 0, None
    return (mark.shard + 1, None) if mark.complete else (mark.shard, mark.position)


def _count(read: Iterable[Read], summary: Summary, bar: Any) -> Iterator[Read]:
    for entries, picture in read:
        summary.add(entries)
        yield entries, picture
        bar.update()


# -- after reading ---------------------------------------------------------------------------------


def _steps(
    read: Iterable[Read],
    options: ScoreOptions,
    card: ModelCard,
    baseline: Baseline | None,
    events: list[Event],
) -> Iterator[Read]:
    """Track, find blinks, take off the baseline, smooth: all in the order of time, none looks
    ahead.
    """
    blinks = Blinks()
    smoother = Smoother(options.smooth_seconds, card) if options.smooth_seconds else None
    for entries, picture in _tracked(read, options):
        if options.events is not None:
            for entry in entries:
                events.extend(blinks.add(entry))
        if baseline is not None:
            entries = [corrected(entry, baseline, card) for entry in entries]
        if smoother is not None:
            entries = [smoother.apply(entry) for entry in entries]
        yield entries, picture
    events.extend(blinks.finish())


def _tracked(read: Iterable[Read], options: ScoreOptions) -> Iterator[Read]:
    """Entries with their `track`; every video has people of its own."""
    if not options.track:
        yield from read
        return
    from scoring.tracking import People

    video, people = "", People()
    for entries, picture in read:
        if entries[0].frame is None:
            yield entries, picture
            continue
        if entries[0].input != video:
            video, people = entries[0].input, People()
        yield people.number(entries), picture


def _medians(read: Iterable[Read], journal: Journal, options: ScoreOptions) -> Medians:
    """Each person's median over the whole run: everything is read first, and gone through again for
    the table.
    """
    for _ in read:
        pass
    medians = Medians()
    for entries, _ in _tracked(_replayed(journal), options):
        for entry in entries:
            medians.add(entry)
    return medians


# -- around it -------------------------------------------------------------------------------------


@contextmanager
def _table(options: ScoreOptions, card: ModelCard, journal: Journal) -> Iterator[TableWriter]:
    """The table. Parquet is no file before its end, so it takes its place then."""
    parquet = options.out.suffix.lower() == ".parquet"
    path = journal.folder / "table.parquet" if parquet else options.out
    writer = open_writer(path, card.vocabulary)
    try:
        yield writer
    finally:
        writer.close()
    if parquet:
        path.replace(options.out)


@contextmanager
def _stoppable() -> Iterator[Stop]:
    stop = Stop()
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _bar(options: ScoreOptions, all_shards: Sequence[Shard]) -> Any:
    unit = "frame" if all(shard.kind in ("video", "webcam") for shard in all_shards) else "picture"
    total = _total(all_shards, options.every) if options.progress else None
    return tqdm(
        total=total, unit=unit, disable=not options.progress, file=sys.stderr, smoothing=0.1
    )


def _total(all_shards: Sequence[Shard], every: int) -> int | None:
    if sum(shard.kind != "pictures" for shard in all_shards) > COUNTED_VIDEOS:
        return None
    counts = [expected(shard, every) for shard in all_shards]
    return None if None in counts else sum(count for count in counts if count is not None)
