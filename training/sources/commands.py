"""`affectgan data`: render, relabel, import, merge and describe dual-annotated databases."""

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)
OUT = click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="folder of the database; a stopped command goes on there",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="processes; the bytes do not depend on it",
)


@click.group()
def data() -> None:
    """Render, relabel, import, merge and describe dual-annotated databases."""


@data.command()
@OUT
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="at least so many: sittings are whole",
)
@click.option(
    "--size",
    "size_px",
    type=int,
    default=64,
    show_default=True,
    help="side of the aligned crops in px, 32 to 512",
)
@click.option(
    "--twins", type=int, default=4, show_default=True, help="states of one person in one sitting"
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="another seed, other people",
)
@WORKERS
def render(out: Path, images: int, size_px: int, twins: int, seed: int, workers: int) -> None:
    """Render faces with true AU intensities, valence and arousal. Same seed, same pixels."""
    from training.database.describe import contact_sheet
    from training.database.reader import Database
    from training.sources.rendering import render_database

    report = render_database(
        out, images=images, size_px=size_px, twins=twins, seed=seed, workers=workers
    )
    sheet = contact_sheet(Database.open(out), out / "contact.png")
    click.echo(f"wrote {out} ({report}) and {sheet}")


@data.command()
@OUT
@click.option(
    "--pairs", type=click.IntRange(min=1), default=1000, show_default=True, help="of pictures"
)
@click.option(
    "--change",
    type=click.Choice(["au", "expression"]),
    default="au",
    show_default=True,
    help="what the second picture changes",
)
@click.option("--au", "codes", multiple=True, help="change only these, e.g. --au AU12 [any AU]")
@click.option(
    "--size",
    "size_px",
    type=int,
    default=64,
    show_default=True,
    help="side of the aligned crops in px, 32 to 512",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="another seed, other people",
)
@WORKERS
def twins(
    out: Path,
    pairs: int,
    change: str,
    codes: tuple[str, ...],
    size_px: int,
    seed: int,
    workers: int,
) -> None:
    """Render twins: the same person, light and pose with one AU or the whole expression changed,
    and where pixels changed.

    OUT is a database like any other; the truth of each pair's second picture holds `changed`: AUs
    and mask. OUT/twins.png shows some.
    """
    from training.database.describe import twin_sheet
    from training.database.reader import Database
    from training.renderer.expressions import AU_CODES
    from training.sources.rendering import render_database

    if codes and change == "expression":
        raise click.UsageError("--au goes with --change au")
    changed = codes or AU_CODES if change == "au" else ()
    report = render_database(
        out, images=2 * pairs, size_px=size_px, twins=2, seed=seed, workers=workers, change=changed
    )
    click.echo(f"wrote {out} ({report}) and {twin_sheet(Database.open(out), out / 'twins.png')}")


@data.command()
@OUT
@click.option(
    "--people", type=click.IntRange(min=1), default=40, show_default=True, help="on people.jpg"
)
@click.option(
    "--size",
    "size_px",
    type=click.IntRange(32, 512),
    default=128,
    show_default=True,
    help="side of a face in px",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="another seed, other people",
)
@click.option(
    "--photos",
    type=FOLDER,
    help="folder of photographs: beside.jpg shows their faces, aligned as in serving, "
    "above rendered ones",
)
def sheets(out: Path, people: int, size_px: int, seed: int, photos: Path | None) -> None:
    """Draw what the renderer draws: people.jpg, and action-units.jpg with each AU alone on four
    people.

    action-units-uncreased.jpg shows the same without furrows: what the movement of the skin says
    alone.
    """
    from training.renderer.sheet import beside_sheet, people_sheet, save_sheet, unit_sheet
    from training.sources.cropping import faces_of

    out.mkdir(parents=True, exist_ok=True)
    save_sheet(
        people_sheet(seed=seed, count=people, size_px=size_px, columns=10), out / "people.jpg"
    )
    for creases, name in ((True, "action-units.jpg"), (False, "action-units-uncreased.jpg")):
        units = unit_sheet(
            seed=seed, people=4, size_px=size_px, intensities=(1.0,), creases=creases
        )
        save_sheet(units, out / name)
    if photos is not None:
        photographs = faces_of(photos, size_px)
        save_sheet(beside_sheet(photographs, seed=seed), out / "beside.jpg")
    click.echo("wrote " + ", ".join(str(path) for path in sorted(out.glob("*.jpg"))))


@data.command()
@click.argument("folder", type=FOLDER)
@OUT
def relabel(folder: Path, out: Path) -> None:
    """Give rendered faces of FOLDER the valence and arousal of today's rule, without rendering them
    again.
    """
    from training.database.reader import Database
    from training.renderer.affect_rule import RULE
    from training.sources.relabelling import relabel_database

    count = relabel_database(Database.open(folder), out)
    click.echo(f"wrote {out}: {count} rendered faces relabelled by the rule {RULE}")


@data.command("import")
@click.argument(
    "format_name",
    metavar="FORMAT",
    type=click.Choice(
        [
            "csv",
            "affwild2",
            "abaw",
            "affectnet",
            "emotionet",
            "disfa",
            "bp4d",
            "afewva",
            "facemotion",
            "pictures",
        ]
    ),
)
@click.argument("path", type=FOLDER)
@OUT
@click.option(
    "--pictures", type=FOLDER, help="folder of the pictures, when not where the format has them"
)
@click.option(
    "--size",
    "size_px",
    type=int,
    default=128,
    show_default=True,
    help="side of the aligned crops in px, 32 to 512",
)
@click.option(
    "--aligned",
    is_flag=True,
    help="the pictures are aligned crops already (eyes at 0.32, 0.36 and 0.68, 0.36 of the side)",
)
@click.option(
    "--eyes",
    help="the pictures are crops with pupils at X1,Y1,X2,Y2 of their sides, the "
    "picture's left eye first",
)
@click.option(
    "--splits",
    type=click.Choice(["hash", "official", "test"]),
    default="hash",
    show_default=True,
    help="by a hash of person or video, the same in every database; or the set's own, its "
    "validation set becoming our test split; "
    "or all of it for testing",
)
@click.option(
    "--threshold",
    type=int,
    default=2,
    show_default=True,
    help="disfa: an intensity (of 5) from which an AU counts as present",
)
@click.option(
    "--au-max",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="csv: the largest AU value",
)
@click.option(
    "--people", type=FOLDER, help="pictures: a CSV of image,identity [each picture another person]"
)
@click.option("--licence", default="", help="pictures: under which they may be used")
@WORKERS
def import_(
    format_name: str,
    path: Path,
    out: Path,
    pictures: Path | None,
    size_px: int,
    aligned: bool,
    eyes: str | None,
    splits: str,
    threshold: int,
    au_max: float,
    people: Path | None,
    licence: str,
    workers: int,
) -> None:
    """Import the annotated set at PATH, which lies there as its authors deliver it; or, as
    `pictures`, a folder of photographs.

    Faces are found and aligned by the same code that serves predictions. Every line that is not
    used is listed, with file, line and reason, in OUT/refused.csv. The layouts are described in
    docs/formats.md.
    """
    from training.sources.cropping import Cropping, parse_eyes
    from training.sources.formats import FORMATS
    from training.sources.importing import REFUSED_FILE, import_database
    from training.sources.record import Options

    options = Options(
        pictures=pictures, threshold=threshold, au_max=au_max, people=people, licence=licence
    )
    source = FORMATS[format_name](path, options)
    cropping = Cropping(
        size_px=size_px,
        aligned=aligned,
        eyes=parse_eyes(eyes) if eyes else None,
        tight=source.tight,
    )
    report = import_database(source, out, cropping=cropping, splits=splits, workers=workers)
    click.echo(f"{report.table()}\nwrote {out}; every refused line is in {out / REFUSED_FILE}")


@data.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER)
@OUT
@click.option("--name", default="", help="of the database; the names of its parts unless given")
@click.option(
    "--positive",
    type=click.FloatRange(0, 1, min_open=True),
    help="an AU counts as present from this intensity on [the first's]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="weights of the sources in training: 0 draws every source equally often, 1 every picture",
)
def merge(
    folders: tuple[Path, ...], out: Path, name: str, positive: float | None, temperature: float
) -> None:
    """Join FOLDERS into one dual-annotated database.

    Labels are united with their masks, a picture that is in several is kept once with the labels of
    all, splits are kept, and nobody stands in two of them.
    """
    from training.database.merging import merge_databases

    report = merge_databases(
        folders, out, name=name, positive_intensity=positive, temperature=temperature
    )
    click.echo(f"wrote {out} ({report})")


@data.command()
@click.argument("renders", type=FOLDER)
@click.option(
    "--points", type=FOLDER, required=True, help="mesh points of the renders, by `make mesh`"
)
@click.option("--photos", type=FOLDER, required=True, help="database of photographs")
@click.option("--photo-points", type=FOLDER, required=True, help="mesh points of the photographs")
@OUT
@click.option(
    "--neutral",
    type=FOLDER,
    help="file that names pictures of people at rest, or patterns, one a line: they say "
    "where rest lies",
)
@click.option(
    "--student",
    type=FOLDER,
    help="a model whose own readings make half of each label: a second round",
)
def teach(
    renders: Path,
    points: Path,
    photos: Path,
    photo_points: Path,
    out: Path,
    neutral: Path | None,
    student: Path | None,
) -> None:
    """Label photographs by a teacher that learns from RENDERS how a face mesh moves with each
    label.

    Each label has a confidence; OUT/data.json says that they are pseudo-labels, and by what.
    """
    import torch

    from training.teacher.labelling import Request, teach_photographs

    torch.set_num_threads(1)
    report = teach_photographs(
        Request(renders, points, photos, photo_points, out, neutral=neutral, student=student)
    )
    click.echo(f"{report}\nwrote {out}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--html", type=FOLDER, help="where the illustrated description goes [FOLDER/describe.html]"
)
def describe(folder: Path, html: Path | None) -> None:
    """Say what a database holds, in words here and with pictures and plots in one HTML file."""
    from training.database.describe import description, write_html
    from training.database.reader import Database
    from training.database.survey import survey

    database = Database.open(folder)
    result = survey(database)
    click.echo(description(result))
    click.echo(f"\nwrote {write_html(database, result, html or folder / 'describe.html')}")
