"""`affectgan judge` and `affectgan evaluate`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from affect.judge import JudgeKind

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option(
    "--data",
    type=_FOLDER,
    required=True,
    help="database folder; best one that no model was trained on",
)
@click.option(
    "--out", type=_FOLDER, required=True, help="folder for judge.safetensors and judge.json"
)
@click.option(
    "--images", type=click.IntRange(min=64), help="pictures to see in all  [default: 280000]"
)
@click.option(
    "--size",
    "size_px",
    type=click.IntRange(min=32, max=256),
    default=64,
    show_default=True,
    help="side of the judge's pictures, px",
)
@click.option(
    "--photographs",
    type=_FOLDER,
    help="database of pseudo-labelled photographs to learn from too; best others than the model's",
)
@click.option(
    "--kind",
    type=click.Choice(["inverted", "plain", "residual"]),
    default="inverted",
    show_default=True,
    help="blocks of the network: of two judges, each another kind",
)
@click.option("--seed", type=int, help="the judge's own seed")
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="torch threads"
)
def judge(
    data: Path,
    out: Path,
    images: int | None,
    size_px: int,
    photographs: Path | None,
    kind: "JudgeKind",
    seed: int | None,
    threads: int,
) -> None:
    """Train an independent network that grades what a GAN draws."""
    import torch

    from training.evaluation.judge.training import JudgeConfig, train_judge

    torch.set_num_threads(threads)
    config = JudgeConfig(image_px=size_px, kind=kind)
    config = replace(
        config, images=images or config.images, seed=config.seed if seed is None else seed
    )
    trained = train_judge(data, out, config, photographs)
    for name, (value, low, high) in trained.card.held_out.items():
        click.echo(f"{name:<8} {value:.3f} [{low:.3f}, {high:.3f}]")
    click.echo(f"wrote {out}")


@click.command()
@click.argument("run", type=_FOLDER)
@click.option("--data", type=_FOLDER, required=True, help="database folder")
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@click.option(
    "--judge",
    "judge_folder",
    type=_FOLDER,
    help="folder of a judge; without one, nothing drawn is graded",
)
@click.option(
    "--second-judge",
    type=_FOLDER,
    help="folder of another judge than the one beside the model: grades explanations, and trust "
    "in them is fitted to what it confirms  [default: --judge]",
)
@click.option(
    "--calibrate/--keep-card",
    default=None,
    help="write calibration and figures into the card or not  [default: on its own data]",
)
@click.option(
    "--explanations",
    type=click.IntRange(min=0),
    is_flag=False,
    flag_value=500,
    default=0,
    show_default=True,
    help="questions whose explanations the judge grades; without a number 500",
)
@click.option(
    "--images", type=click.IntRange(min=16), help="most faces of the split to read  [default: 4000]"
)
@click.option(
    "--photographs",
    type=_FOLDER,
    multiple=True,
    help="database of photographs, pseudo-labelled or annotated: measured apart from the data, and "
    "people at rest in it hold the thresholds; may be given again",
)
@click.option(
    "--nuisance-people",
    type=click.IntRange(min=2),
    help="rendered faces, in two versions of each thing that should not matter, from which weights "
    "learn what that is; fewer are quicker and cruder  [default: 96]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="torch threads"
)
def evaluate(
    run: Path,
    data: Path,
    photographs: tuple[Path, ...],
    split: str,
    judge_folder: Path | None,
    second_judge: Path | None,
    calibrate: bool | None,
    explanations: int,
    images: int | None,
    nuisance_people: int | None,
    seed: int,
    threads: int,
) -> None:
    """Calibrate a run and measure it: writes report.json and report.html into the run and figures
    into its card.
    """
    import cv2
    import torch

    from affect.card import CARD_FILE
    from training.evaluation.report import report
    from training.evaluation.report.evaluate import EvaluationConfig
    from training.evaluation.report.evaluate import evaluate as measure
    from training.gan.run_folder import MODEL_FOLDER

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    if explanations and judge_folder is None:
        raise click.UsageError("explanations are graded by a judge: give --judge too")
    config = EvaluationConfig(
        split=split, calibrate=calibrate, explained_images=explanations, seed=seed
    )
    measured, art = measure(
        run,
        data,
        judge_folder,
        replace(
            config,
            most_images=images or config.most_images,
            nuisance_people=nuisance_people or config.nuisance_people,
        ),
        photographs=photographs,
        second_judge=second_judge,
    )
    paths = report.write(measured, art, run)
    click.echo(report.summary_text(measured))
    card = [run / MODEL_FOLDER / CARD_FILE] if measured.wrote_card else []
    click.echo(f"wrote {', '.join(str(path) for path in (*paths, *card))}")


@click.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "--people",
    type=click.IntRange(min=8),
    default=100,
    show_default=True,
    help="rendered faces, each in two versions of every change",
)
@click.option(
    "--data",
    type=_FOLDER,
    help="database whose faces are asked about too: by attributes, groups and counterfactuals",
)
@click.option(
    "--judge",
    "judge_folder",
    type=_FOLDER,
    help="folder of a judge, who tells this model's own weaknesses from other expressions",
)
@click.option(
    "--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True
)
@click.option(
    "--images",
    type=click.IntRange(min=64),
    default=400,
    show_default=True,
    help="faces of the split to move by the generator",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="torch threads"
)
def audit(
    run: Path,
    people: int,
    data: Path | None,
    judge_folder: Path | None,
    split: str,
    images: int,
    seed: int,
    threads: int,
) -> None:
    """Find what should not matter but moves decisions: writes audit.json and audit.html into the
    run.
    """
    import cv2
    import torch

    from training.evaluation.report import audit_report

    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    rendered, on_data, paths = audit_report.write(
        run,
        audit_report.AuditConfig(
            people=people,
            data=data,
            split=split,
            images=images,
            judge_folder=judge_folder,
            seed=seed,
        ),
    )
    click.echo(audit_report.summary_text(rendered, on_data))
    click.echo(f"wrote {', '.join(str(path) for path in paths)}")
