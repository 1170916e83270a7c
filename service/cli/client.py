"""`affectgan predict|generate|explain`: the client, on files and folders.

Answers are written as they come, so a run that was stopped can be resumed.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import orjson

from affect.answers import (
    Alternative,
    ExplainResult,
    GenerateResult,
    Picture,
    PredictResult,
)
from affect.client import ApiError, Client
from affect.inputs import PICTURE_SUFFIXES, InputPicture, expand

R = TypeVar("R", PredictResult, ExplainResult)
C = TypeVar("C", bound="Connection")
EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
PATIENCE_SECONDS = 86_400.0  # the user can stop it, and resume with --resume
PATHS = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
URL = click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    envvar="AFFECTGAN_URL",
    help="the gateway",
)
KEY = click.option(
    "--key",
    envvar="AFFECTGAN_KEY",
    help="API key; better in the variable AFFECTGAN_KEY, where nobody sees it",
)
RESUME = click.option(
    "--resume", is_flag=True, help="go on where a run into the same --out was stopped"
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="replace what an earlier run wrote")


class GatewayError(click.ClickException):
    """The gateway refused a whole request, or does not answer."""


def as_object(kind: type[C]) -> Callable[[Callable[[C], None]], Callable[..., None]]:
    """Gives a command its options as one object of this class."""

    def decorate(command: Callable[[C], None]) -> Callable[..., None]:
        def with_options(**options: Any) -> None:
            command(kind(**options))

        return update_wrapper(with_options, command)

    return decorate


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The gateway, and the key for it."""

    url: str
    key: str | None


@dataclass(frozen=True, kw_only=True)
class PredictArguments(Connection):
    """Of `affectgan predict`."""

    paths: tuple[Path, ...]
    faces: str
    out: Path | None
    resume: bool
    overwrite: bool


@dataclass(frozen=True, kw_only=True)
class GenerateArguments(Connection):
    """Of `affectgan generate`."""

    aus: tuple[str, ...]
    valence: float | None
    arousal: float | None
    seed: int
    count: int
    reference: Path | None
    out: Path
    overwrite: bool

    def items(self) -> list[dict[str, Any]]:
        """Of the request. Raises click.BadParameter."""
        labels: dict[str, Any] = {
            "aus": dict(_intensity(text) for text in self.aus),
            "valence": self.valence,
            "arousal": self.arousal,
            "reference": self.reference,
        }
        item = {name: value for name, value in labels.items() if value is not None}
        return [{**item, "seed": self.seed + number} for number in range(self.count)]


@dataclass(frozen=True, kw_only=True)
class ExplainArguments(Connection):
    """Of `affectgan explain`."""

    paths: tuple[Path, ...]
    au: str | None
    present: bool | None
    valence: float | None
    arousal: float | None
    family: str
    answers: int
    gradients: bool
    faces: str
    out: Path
    resume: bool
    overwrite: bool

    def question(self) -> dict[str, Any]:
        """Of the request; empty: the strongest decision."""
        names = ("au", "present", "valence", "arousal")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def request_options(self) -> dict[str, Any]:
        """The other options of the request."""
        return {
            "faces": self.faces,
            "family": self.family,
            "answers": self.answers,
            "integrated_gradients": self.gradients,
        }


@dataclass
class AnswerLog:
    """The lines of one command: shown, and written as they come when there is a folder for them."""

    folder: Path | None
    name: str
    file: IO[bytes] | None
    done: frozenset[str]  # files that an earlier run has answered
    overwrite: bool
    lines: int = 0
    failed: int = 0

    def __enter__(self) -> "AnswerLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, answer: dict[str, Any], *, failed: bool, display: bool = True) -> None:
        """One answer."""
        line = orjson.dumps(answer)
        self.lines += 1
        self.failed += failed
        if self.file is not None:
            self.file.write(line + b"\n")
            self.file.flush()
        if display:
            self.print_line(line.decode())

    def print_line(self, text: str) -> None:
        """Print a line for people on standard error."""
        click.echo(text)

    def save(self, stem: Path, picture: Picture) -> Path:
        """The picture in the folder. Raises ClickException for a name that is taken."""
        assert self.folder is not None
        stem = self.folder / stem
        path = stem.with_name(stem.name + EXTENSIONS.get(picture.media_type, ".png"))
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_free(path, replaced=self.overwrite)
        path.write_bytes(picture.to_bytes())
        return path

    def finish(self) -> None:
        """Print what was written. Raises ClickException when something failed."""
        if self.folder is not None:
            click.echo(f"wrote {self.folder / self.name}", err=True)
        if self.failed:
            raise click.ClickException(f"{self.failed} of {self.lines} failed; each says why")


@click.command()
@PATHS
@click.option(
    "--faces", type=click.Choice(["largest", "all", "none"]), default="largest", show_default=True
)
@URL
@KEY
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="folder for answers")
@RESUME
@OVERWRITE
@as_object(PredictArguments)
def predict(options: PredictArguments) -> None:
    """Read the faces of pictures; one JSON line each."""
    pictures = named_pictures(options.paths)
    with _log(options, "predictions.jsonl") as log, connected(options) as client:
        answers = _progressing(
            pictures, log, lambda left: client.predict_each(left, faces=options.faces)
        )
        for name, result in answers:
            log.write({"file": name, **_as_json(result)}, failed=result.status != "ok")
    log.finish()


@click.command()
@click.option(
    "--au",
    "aus",
    multiple=True,
    metavar="CODE=INTENSITY",
    help="wanted Action Unit, e.g. AU12=0.9; repeat for more",
)
@click.option("--valence", type=float)
@click.option("--arousal", type=float)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="of the first face; the next ones count up",
)
@click.option("--count", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="photograph of the person to keep",
)
@URL
@KEY
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@OVERWRITE
@as_object(GenerateArguments)
def generate(options: GenerateArguments) -> None:
    """Draw faces in a wanted state."""
    items = options.items()
    for item in items:
        _check_free(options.out / f"face-{item['seed']}.png", replaced=options.overwrite)
    with _log(options, "faces.jsonl") as log, connected(options) as client:
        for result in client.generate(items).results:
            line = _as_json(result)
            line.pop("image", None)
            if result.image is not None:
                line["file"] = str(log.save(Path(f"face-{result.seed}"), result.image))
            log.write(line, failed=result.status != "ok")
    log.finish()


@click.command()
@PATHS
@click.option("--au", help="Action Unit to question, e.g. AU12")
@click.option(
    "--present/--absent", default=None, help="how it should be instead (default: otherwise)"
)
@click.option("--valence", type=float, help="wanted valence")
@click.option("--arousal", type=float, help="wanted arousal")
@click.option(
    "--family",
    type=click.Choice(["expression", "nuisance"]),
    default="expression",
    show_default=True,
    help="what may be changed",
)
@click.option(
    "--answers",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="different changes, the least one first",
)
@click.option(
    "--gradients", is_flag=True, help="Integrated Gradients too: which pixels made the decision"
)
@click.option(
    "--faces", type=click.Choice(["largest", "none"]), default="largest", show_default=True
)
@URL
@KEY
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@RESUME
@OVERWRITE
@as_object(ExplainArguments)
def explain(options: ExplainArguments) -> None:
    """Show the least change to each face that changes a decision (default: the strongest one).

    The pictures of a/b.jpg go into OUT/a/b.jpg/.
    """
    question, other_options = options.question(), options.request_options()
    pictures = _distinct(named_pictures(options.paths))
    _check_places(options, pictures)
    with _log(options, "explanations.jsonl") as log, connected(options) as client:
        answers = _progressing(
            pictures, log, lambda left: client.explain_each(left, question, **other_options)
        )
        for name, result in answers:
            line = {"file": name, **_explained(log, name, result, options.paths)}
            log.write(line, failed=result.error is not None, display=False)
    log.finish()


def _explained(
    log: AnswerLog, name: str, result: ExplainResult, paths: Sequence[Path]
) -> dict[str, Any]:
    """One answer: shown, and its pictures saved; as it is written."""
    if result.error is not None:
        log.print_line(f"{name}: {result.error.title}: {result.error.detail}")
        return _as_json(result)
    for answer in _answers(result):
        trust = answer.trust.level if answer.trust else "unknown"
        log.print_line(f"{name}: {answer.sentence} (trust: {trust})")
    return _saved(log, _place(name, paths), result)


def _log(options: PredictArguments | GenerateArguments | ExplainArguments, name: str) -> AnswerLog:
    """Opened before anything is asked. Raises ClickException when an earlier run's answers are
    there.
    """
    resume = not isinstance(options, GenerateArguments) and options.resume
    out, overwrite = options.out, options.overwrite
    if resume and overwrite:
        raise click.UsageError("--resume goes on and --overwrite begins again; give one of them")
    if out is None:
        if resume:
            raise click.UsageError("--resume needs the --out of the run that was stopped")
        return AnswerLog(None, name, None, frozenset(), overwrite)
    path = out / name
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (resume or overwrite):
            raise click.ClickException(
                f"{path} exists: go on with --resume, or replace it with --overwrite"
            )
        done = _completed_names(path) if resume and path.exists() else frozenset()
        # Pictures of a face that was under way when the run stopped are written again.
        file = path.open("ab" if resume else "wb")
        return AnswerLog(out, name, file, done, overwrite or resume)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error


def _completed_names(path: Path) -> frozenset[str]:
    """Files with a whole line; half a line, of a run that was killed, is cut off. Raises
    ClickException for a line that is no answer.
    """
    content = path.read_bytes()
    complete_lines = content[: content.rfind(b"\n") + 1]
    try:
        completed = frozenset(
            str(orjson.loads(line)["file"]) for line in complete_lines.splitlines()
        )
    except (ValueError, TypeError, KeyError) as error:
        raise click.ClickException(
            f"{path} has lines that are no answers of this command: choose another --out, or "
            "--overwrite"
        ) from error
    if complete_lines != content:
        path.write_bytes(complete_lines)
    return completed


@contextmanager
def connected(connection: Connection) -> Iterator[Client]:
    """A client that says when it waits, and whose errors are one line."""
    try:
        with Client(
            connection.url,
            api_key=connection.key,
            patience_seconds=PATIENCE_SECONDS,
            on_wait=_waiting,
        ) as client:
            yield client
    except ApiError as error:
        raise GatewayError(str(error)) from error
    except OSError as error:
        file_name = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{file_name}{error.strerror or error}") from error


def _waiting(seconds: float, reason: str) -> None:
    click.echo(f"waiting {seconds:.0f} s: {reason}", err=True)


def named_pictures(paths: Sequence[Path]) -> list[InputPicture]:
    """Raises ClickException when there are none."""
    pictures = list(expand(paths))
    if not pictures:
        raise click.ClickException(
            f"no picture found; give files or folders of {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    return pictures


def _distinct(pictures: Sequence[InputPicture]) -> list[InputPicture]:
    """Each file once, however often and by whatever path it is named."""
    return list({os.path.abspath(one.name): one for one in reversed(pictures)}.values())[::-1]


def _check_places(options: ExplainArguments, pictures: Sequence[InputPicture]) -> None:
    """Whether the pictures of each answer have a folder to go to, before anything is asked. Raises
    ClickException.
    """
    for picture in pictures:
        target = options.out / _place(picture.name, options.paths)
        if target.exists() and not target.is_dir():
            raise click.ClickException(
                f"{target} is a file, and a folder of this name is needed: choose another --out"
            )
        _check_free(target, replaced=options.overwrite or options.resume)


def _check_free(path: Path, *, replaced: bool) -> None:
    if path.exists() and not replaced:
        raise click.ClickException(f"{path} exists: choose another --out, or --overwrite")


def _progressing(
    pictures: Sequence[InputPicture],
    log: AnswerLog,
    send: Callable[[Sequence[InputPicture]], Iterator[tuple[str, R]]],
) -> Iterator[tuple[str, R]]:
    """Answers as they come, beside a bar on stderr."""
    remaining = [picture for picture in pictures if picture.name not in log.done]
    with click.progressbar(length=len(pictures), label="pictures", file=sys.stderr) as bar:
        bar.update(len(pictures) - len(remaining))
        for answer in send(remaining):
            yield answer
            bar.update(1)


def _saved(log: AnswerLog, folder: Path, result: ExplainResult) -> dict[str, Any]:
    """An explanation's pictures in a folder of their own, and the answer with their paths in their
    place.
    """

    def save(name: str, picture: Picture) -> str:
        return str(log.save(folder / name, picture))

    assert result.reconstruction is not None and result.frames is not None
    line = _as_json(result)
    line["reconstruction"]["image"] = save("reconstruction", result.reconstruction.image)
    line["frames"] = [save(f"frame-{n}", frame) for n, frame in enumerate(result.frames)]
    if result.integrated_gradients is not None:
        gradients = save("gradients", result.integrated_gradients.image)
        line["integrated_gradients"]["image"] = gradients
    rows = (line, *line["alternatives"])
    for number, (answer, row) in enumerate(zip(_answers(result), rows, strict=True), 1):
        stem_prefix = f"answer-{number}-" if number > 1 else ""
        assert answer.counterfactual is not None and answer.map is not None
        row["counterfactual"]["image"] = save(
            f"{stem_prefix}counterfactual", answer.counterfactual.image
        )
        row["map"] = {
            "image": save(f"{stem_prefix}map", answer.map.image),
            "signed": save(f"{stem_prefix}map-signed", answer.map.signed),
        }
    return line


def _answers(result: ExplainResult) -> tuple[ExplainResult | Alternative, ...]:
    return (result, *(result.alternatives or ()))


def _place(name: str, paths: Sequence[Path]) -> Path:
    """Where the pictures of a file go: its path below what all that was named has in common, so
    that no two share one.
    """
    common = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return Path(os.path.relpath(os.path.abspath(name), common))


def _as_json(result: PredictResult | ExplainResult | GenerateResult) -> dict[str, Any]:
    """An answer as JSON has it, without pictures that are saved beside it."""
    return result.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _intensity(text: str) -> tuple[str, float]:
    code, _, value = text.partition("=")
    try:
        return code, float(value)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; write it as AU12=0.9", param_hint="--au") from error
