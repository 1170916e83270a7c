"""The configuration of a run: every constant of training, with its meaning and unit.

A preset is a function that returns a whole config.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from affect.card import NetworkSize

Labels = Literal["au", "va", "both"]
# Fields whose name in an older config.json differs from today's.
EARLIER_NAMES = {"veil": "moved_noise"}
READER_CHANNELS = (24, 48, 96, 160, 224)  # of the reading network at 128 px


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run.

    Progress and every schedule count pictures seen: a pair (a face and its twin) is two.
    """

    preset: str
    labels: Labels = "both"
    seed: int = 0
    image_px: int
    network: NetworkSize

    total_images: int  # length of the run, in pictures seen
    batch_pairs: int  # B: pairs of a step
    learning_rate: float = 1.2e-3  # at its top; Adam without clipping diverged at 2e-3
    # share of the run over which the rate rises from 0; it falls to 0 as a cosine
    warmup: float = 0.02
    betas: tuple[float, float] = (
        0.5,
        0.99,
    )  # Adam; a low first moment because the critic's target moves
    clip_norm: float = 1.0  # largest gradient norm of a step
    ema_half_life_images: float  # of the weights that are evaluated and served

    # share of the run after which the decoder is also graded by the (frozen) reader
    reader_from: float = 0.1
    # share of the run after which the adversarial losses start; earlier, the critic would only see
    # blur
    adversary_from: float = 0.6
    au_weight: float = 1.0  # L_au, real faces
    va_weight: float = 1.0  # L_va, real faces
    identity_weight: float = 0.1  # twins attract, other people repel
    reconstruction_weight: float = 10.0  # L_rec, pixels in [0, 1]
    # Of the faces drawn from the latent alone, beside 1 for edits: at 1 their best answer is a
    # blur.
    latent_reconstruction: float = 1.0
    feature_weight: float = 1.0  # trunk's maps of the drawn face against those of the true one
    drawn_label_weight: float = 0.3  # lambda: labels read off drawn faces
    latent_weight: float = 0.3  # |E(x~) - z|^2
    # a face without a twin, moved and moved back: the pixels are as dear as those of reconstruction
    # (StarGAN: 10)
    cycle_weight: float = 10.0
    adversary_weight: float = 0.3  # b: relativistic loss of the decoder
    # the same where it draws from the latent alone, without a given face
    latent_adversary_weight: float = 0.3
    gamma: float = 1.0  # R1 + R2
    penalty_every: int = 4  # steps between two penalties, each then weighted by this
    penalty_rows: int = 16  # pictures of a step that carry the penalty: second derivatives are dear
    label_jitter: float = 0.03  # sd of the noise on conditions: the cheap vicinal trick of CcGAN

    reader_rate: float = 2e-3  # of the reading network at its top; AdamW, same schedule
    reader_decay: float = 0.05  # its weight decay
    reader_clip: float = 5.0  # its largest gradient norm
    reader_augmentation: float = 1.0  # strength of what it alone sees changed, 0 none
    twin_weight: float = 5.0  # squared error of the differences between twins, as it reads them
    photograph_share: float = 0.34  # of each batch, where photographs are given
    consistency_weight: float = 1.0  # between two views of a photograph, as it reads them

    # False: no decoder and no critic, a plain multi-task network that only reads
    draws: bool = True
    # False: a reading network stays as --init left it, and the game alone is trained
    reads: bool = True

    # share of pairs drawn through the skips (edit) rather than from the latent alone (generate)
    edited: float = 0.5
    still: float = 0.1  # share of those edits that ask for no change: the face itself is the target
    # share of the faces without a twin, drawn from the latent, that go to another state; of edits,
    # all but `still` do
    moved: float = 0.5
    # sd of the noise (pixels in [-1, 1]) on such a face before it is read: as much as a poor camera
    # adds
    moved_noise: float = 0.05
    # share of the other faces whose input is blurred, noised or partly hidden; the target stays
    # clean
    corrupted: float = 0.5
    # sd of the crop's translation, in sides: what an estimated alignment gets wrong
    shift: float = 0.03
    turn: float = 0.05  # sd of its rotation, in radians
    zoom: float = 0.04  # sd of its log scale
    colour: float = 0.12  # sd of log gain, contrast, saturation and gamma, alike for both twins

    checkpoint_seconds: float = 180.0
    log_images: int = 5_000
    sample_images: int = 50_000

    @property
    def step_images(self) -> int:
        """Pictures seen in a step."""
        return 2 * self.batch_pairs

    def as_json(self) -> dict[str, Any]:
        """Plain values, for config.json and for comparing a resumed run with its beginning."""
        return asdict(self) | {
            "network": self.network.model_dump(mode="json"),
            "betas": list(self.betas),
        }


def smoke() -> TrainConfig:
    """Under a minute on one core: proves the path, not the model."""
    return TrainConfig(
        preset="smoke",
        image_px=32,
        network=NetworkSize(
            trunk=(8, 16, 32, 48), decoder=(48, 32, 16, 8), latent=32, condition=24
        ),
        total_images=12_000,
        batch_pairs=16,
        ema_half_life_images=500,
        penalty_rows=8,
        log_images=1_000,
        sample_images=6_000,
    )


def faces64() -> TrainConfig:
    """64 px, 1 M parameters: an hour or two on two cores."""
    return TrainConfig(
        preset="faces64",
        image_px=64,
        network=NetworkSize(
            trunk=(16, 24, 48, 96, 128), decoder=(128, 96, 64, 32, 16), latent=128, condition=64
        ),
        total_images=1_200_000,
        batch_pairs=32,
        ema_half_life_images=10_000,
    )


def faces128cpu() -> TrainConfig:
    """128 px for a processor without a GPU: `faces64` with one narrow level on top, so its weights
    are a good beginning (--init).

    130 pictures a second before the adversary plays, 75 after, on one quiet core with bf16.
    """
    return replace(
        faces64(),
        preset="faces128cpu",
        image_px=128,
        network=NetworkSize(
            trunk=(8, 16, 24, 48, 96, 128),
            decoder=(128, 96, 64, 32, 16, 8),
            latent=128,
            condition=64,
        ),
        total_images=600_000,
        learning_rate=1e-3,
        gamma=4.0,  # grows with the number of pixels (R3GAN, table 7)
        adversary_from=0.65,
        colour=0.16,
    )


def tune128cpu() -> TrainConfig:
    """Goes on from weights of `faces128cpu` (--init) on new data: half the rate, so that little is
    unlearnt, and the critic soon plays, because what begins is sharp already and without him would
    blur.
    """
    return replace(
        faces128cpu(),
        preset="tune128cpu",
        total_images=100_000,
        learning_rate=5e-4,
        warmup=0.05,
        reader_from=0.0,
        adversary_from=0.4,
    )


def wide128cpu() -> TrainConfig:
    """`tune128cpu` with twice the width from 32 px down, 4 M parameters: a tenth slower, as narrow
    maps leave lanes of a processor idle.

    Begins at narrower weights (--init). Reading weighs twice, because faces learnt from were read
    hardly better than others.
    """
    return replace(
        tune128cpu(),
        preset="wide128cpu",
        network=NetworkSize(
            trunk=(8, 16, 32, 64, 128, 160),
            decoder=(160, 128, 72, 40, 16, 8),
            latent=128,
            condition=64,
        ),
        total_images=200_000,
        learning_rate=7e-4,
        adversary_from=0.55,
        # at 0.3 the critic wins (log.jsonl of the weights before: 0.2 against 1.1) and drawn faces
        # stay soft
        latent_adversary_weight=0.7,
        au_weight=2.0,
        va_weight=2.0,
    )


def faces128() -> TrainConfig:
    """128 px, 7 M parameters: for a GPU."""
    return replace(
        faces64(),
        preset="faces128",
        image_px=128,
        network=NetworkSize(
            trunk=(24, 48, 96, 160, 224, 256),
            decoder=(256, 224, 160, 96, 48, 24),
            latent=192,
            condition=96,
        ),
        total_images=10_000_000,
        batch_pairs=64,
        learning_rate=6e-4,
        ema_half_life_images=50_000,
        gamma=4.0,  # grows with the number of pixels (R3GAN, table 7)
        penalty_rows=32,
    )


def _network_with_reader() -> NetworkSize:
    """That of `wide128cpu` with a reading network, where --init names no other."""
    return wide128cpu().network.model_copy(update={"reader": READER_CHANNELS})


def reader128() -> TrainConfig:
    """The reading network alone at 128 px: what to take for a licensed set, from --init weights.

    Nothing is drawn and the generator of --init stays as it is.
    """
    return replace(
        faces128cpu(),
        preset="reader128",
        network=_network_with_reader(),
        draws=False,
        reader_augmentation=0.5,
        reader_rate=1.5e-3,
        total_images=150_000,
        batch_pairs=32,
        warmup=0.05,
        ema_half_life_images=4_000,
    )


def generator128() -> TrainConfig:
    """The game alone at 128 px: what to take for sharper faces and edits, from --init weights.

    The reading network of --init stays as it is. 17 pictures a second on one core with bf16.
    """
    return replace(
        tune128cpu(),
        preset="generator128",
        network=_network_with_reader(),
        reads=False,
        total_images=150_000,
        adversary_from=0.0,  # what begins is as sharp as its critic made it
        latent_reconstruction=0.4,
        adversary_weight=0.4,
        latent_adversary_weight=1.0,
        photograph_share=0.15,
    )


def faces256() -> TrainConfig:
    """256 px: `faces128` with a level on top, so its weights are a good beginning (--init).

    For a GPU; nobody has trained it to its end.
    """
    return replace(
        faces128(),
        preset="faces256",
        image_px=256,
        network=NetworkSize(
            trunk=(12, 24, 48, 96, 160, 224, 256),
            decoder=(256, 224, 160, 96, 48, 24, 12),
            latent=192,
            condition=96,
        ),
        batch_pairs=32,  # half the pictures a step: four times the pixels
        learning_rate=4e-4,  # falls with the square root of the batch
        gamma=16.0,  # four times that of 128 px, as the pixels
        penalty_rows=16,
    )


def multitask() -> TrainConfig:
    """The plain network beside `smoke`: the same trunk, heads, data, augmentation and schedule, and
    nothing is drawn.
    """
    return replace(smoke(), preset="multitask", draws=False)


def ssgan2019() -> TrainConfig:
    """The seed paper's own model and training, see training/gan/ssgan2019.py.

    Its million steps are 64 M pictures; it collapses before.
    """
    return TrainConfig(
        preset="ssgan2019",
        image_px=32,
        network=NetworkSize(
            kind="ssgan2019", trunk=(64, 128, 256), decoder=(384, 128, 64), latent=100, condition=0
        ),
        total_images=1_200_000,
        batch_pairs=32,  # 64 real pictures
        learning_rate=1e-4,  # of the generator; constant
        betas=(0.5, 0.999),  # beta2 is Adam's own default
        clip_norm=20.0,
        ema_half_life_images=1.0,  # no average
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    function.__name__: function
    for function in (
        smoke,
        faces64,
        faces128cpu,
        tune128cpu,
        wide128cpu,
        reader128,
        generator128,
        faces128,
        faces256,
        multitask,
        ssgan2019,
    )
}


def preset(name: str) -> TrainConfig:
    """The named preset. Raises ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """The same settings; those that an older config.json spells otherwise under today's name."""
    return {EARLIER_NAMES.get(name, name): value for name, value in values.items()}


def from_json(values: dict[str, Any]) -> TrainConfig:
    """The inverse of `TrainConfig.as_json`; also of what an older config.json holds."""
    values = current_names(values)
    return TrainConfig(
        **(values | {"network": NetworkSize(**values["network"]), "betas": tuple(values["betas"])})
    )
