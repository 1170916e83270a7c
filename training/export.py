"""`affectgan export`: the reader as an ONNX file, for runtimes without torch."""

import copy
import warnings
from dataclasses import replace
from pathlib import Path

import click
import onnx
import torch
from torch import Tensor, nn

from affect.card import ModelCard
from affect.faces import EYES
from affect.factory import load_model
from affect.model import AffectModel, ModelOutput
from affect.model_folders import model_folder, shipped_weights
from affect.reading_network import ReadingOutput, averaged

INPUT, CARD_KEY = "crops", "affectgan.card"
OPSET = 17


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--onnx", "as_onnx", is_flag=True, required=True, help="the format (there is one)")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("reader.onnx"),
    show_default=True,
)
@click.option("--overwrite", is_flag=True, help="replace a file that is there")
def export(run: Path | None, as_onnx: bool, out: Path, overwrite: bool) -> None:
    """Write the reader of RUN (a run or model folder; default: the shipped model) as ONNX, with its
    card in the metadata.

    Input `crops`: uint8 (N, S, S, 3), aligned as training aligns. Outputs: intensity, probability,
    va, realism, and what else the model reads (expression, pose, sides), with the names that the
    card gives their columns.
    """
    if out.exists() and not overwrite:
        raise click.ClickException(f"{out} exists: give another --out, or --overwrite")
    folder = shipped_weights() if run is None else model_folder(run)
    write_reader(load_model(folder), out)
    click.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


class ReaderGraph(nn.Module):
    """`AffectModel.predict` on uint8 crops, in operations that ONNX has, for any number of
    faces.
    """

    def __init__(self, model: AffectModel) -> None:
        super().__init__()
        # Read once as it is and once mirrored: in a graph, no row number may depend on the batch.
        self.once = copy.copy(model)
        self.once.card = model.card.model_copy(update={"mirrored": False})
        self.model, self.mirrored = model, model.card.mirrored

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, S, S, 3) to the outputs of `names`."""
        output = self._output(crops.permute(0, 3, 1, 2).float() / 127.5 - 1)
        scale, shift, _ = self.model.platt.unbind(1)
        parts = {
            "intensity": torch.sigmoid(output.logits),
            "probability": torch.sigmoid(output.logits * scale + shift),
            "va": output.va,
            "realism": self._realism(output),
            "expression": output.expression.softmax(1),
            "pose": output.pose,
            "sides": torch.sigmoid(output.sides),
        }
        return tuple(parts[name] for name in names(self.model.card))

    def _output(self, x: Tensor) -> ModelOutput | ReadingOutput:
        if self.model.reader is not None:
            face = self.once.read_state(x)
            return averaged(face, self.once.read_state(x.flip(3))) if self.mirrored else face
        output = self.once.read(x)
        if not self.mirrored:
            return output
        mirror = self.once.read(x.flip(3))
        logits, va = (output.logits + mirror.logits) / 2, (output.va + mirror.va) / 2
        state = torch.cat([torch.sigmoid(logits), va], dim=1)
        return replace(self.once.read(x, state), logits=logits, va=va)

    def _realism(self, output: ModelOutput | ReadingOutput) -> Tensor:
        """`AffectModel.realism` by comparisons: ONNX has no search in sorted numbers."""
        if "strangeness" in self.model.card.reference:
            strangeness = self.model.strangeness(output.features)
            return (self.model.strangeness_quantiles >= strangeness[:, None]).float().mean(1)
        assert isinstance(output, ModelOutput)
        return (self.model.critic_quantiles <= output.critic[:, None]).float().mean(1)


def names(card: ModelCard) -> list[str]:
    """The outputs of a model's graph."""
    all_names = {"expression": card.expressions, "pose": card.pose, "sides": card.one_sided}
    return [
        "intensity",
        "probability",
        "va",
        "realism",
        *(name for name in all_names if all_names[name]),
    ]


def write_reader(model: AffectModel, path: Path) -> None:
    """Write the graph, and the card and the place of the eyes into its metadata."""
    side = model.card.image_px
    outputs = names(model.card)
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what the tracer takes for constants is constant
        torch.onnx.export(
            ReaderGraph(model).eval(),
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=outputs,
            dynamic_axes={name: {0: "faces"} for name in (INPUT, *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(path)
    metadata = {CARD_KEY: model.card.model_dump_json(), "affectgan.eyes": str(EYES)}
    onnx.helper.set_model_props(graph, metadata)
    graph.doc_string = (
        "AffectGAN reader; see the card in the metadata for what it is for and what not"
    )
    onnx.save(graph, path)
