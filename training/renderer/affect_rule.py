"""The valence and arousal that people would put on a face's Action Units: an additive, saturating
rule.

    dimension = tanh(sum of weight x intensity + interactions)

Intensities lie in [0, 1], both dimensions in (-1, 1). The additive form and the signs come from
people: activity of zygomaticus (lip corners up) rises and that of corrugator (brows down) falls
almost linearly with pleasure; arousal follows neither (Lang et al., Psychophysiology 30, 1993;
Larsen, Norris & Cacioppo, Psychophysiology 40, 2003). Ratings of faces follow AUs read by machine
in the same way (Haines et al. 2019, doi 10.1371/journal.pone.0211735; Zhang et al. 2024, doi
10.1038/s41598-024-70563-8). Studies give AU12 and AU4; the sizes of the other weights are set so
that the prototypes of Du, Tao & Martinez (PNAS 2014, table 1) fall on the means of AffectNet's
validation labels. Arousal from a still face is weakly supported: a limit of the rule.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from numpy.random import Generator

RULE = "additive-1"  # change it with any weight below: cards say by which rule a set is labelled

# AU: (valence, arousal), added for each unit of intensity.
WEIGHTS: dict[str, tuple[float, float]] = {
    # Inner brows up: sadness and fear as much as surprise, so hardly any valence (Du 2014;
    # AffectNet).
    "AU1": (-0.05, 0.20),
    # Outer brows up: surprise, the only positive class besides happiness (Du 2014; AffectNet).
    "AU2": (0.10, 0.35),
    # Corrugator: the strongest sign of displeasure (Lang 1993; Larsen 2003; Haines 2019; Zhang
    # 2024).
    "AU4": (-0.50, 0.08),
    # Upper lids up: fear and surprise alike, arousal alone (Du 2014; AffectNet).
    "AU5": (0.0, 0.70),
    # Cheeks up: pleasant beside AU12, see below; alone it also belongs to grief (Du 2014: sadness
    # .50).
    "AU6": (0.08, 0.0),
    # Lids tight: anger (Du 2014).
    "AU7": (-0.05, 0.33),
    # Nose wrinkled, upper lip up: disgust, the class of lowest valence (Du 2014; AffectNet).
    "AU9": (-0.60, 0.30),
    "AU10": (-0.55, 0.30),
    # Zygomaticus: valence rises with it almost linearly (Lang 1993; Larsen 2003; Haines 2019; Zhang
    # 2024).
    "AU12": (1.20, 0.05),
    # Dimples: contempt (EMFACS), a polite or held-back smile beside AU12.
    "AU14": (-0.25, 0.05),
    # Lip corners down: sadness, the one class of both low valence and low arousal (Du 2014;
    # AffectNet).
    "AU15": (-0.80, -0.65),
    # Chin up: sadness, anger and disgust, so valence and no arousal (Du 2014; AffectNet).
    "AU17": (-0.15, 0.0),
    # Lips stretched: fear, high arousal at a valence of -.12 (Du 2014; AffectNet).
    "AU20": (-0.08, 0.60),
    # Lips tight and pressed: anger (Du 2014; AffectNet).
    "AU23": (-0.15, 0.40),
    "AU24": (-0.10, 0.38),
    # Lips part: with happiness and surprise more than with fear (Du 2014).
    "AU25": (0.25, 0.10),
    # Jaw drops: surprise, some fear (Du 2014).
    "AU26": (0.0, 0.50),
    # Eyes closed: rest, which is neither pleasant nor not.
    "AU43": (0.0, -0.60),
}
# valence of AU6 x AU12: smiles with raised cheeks are rated happier (Haines 2019)
SMILING_EYES = 0.40
# share of the valence of AU10 and AU14 that a full AU12 takes away: broad smiles lift the lip too
SOFTENED = 0.7
CONTEMPT = (-0.50, 0.40)  # of a one-sided AU12 with AU14, which is no smile (EMFACS; AffectNet)
NOISE = (
    0.11,
    0.06,
)  # sd of raters at rest, and what a full expression adds; AffectNet's classes have .07 to .23

Sides = Mapping[str, float]  # intensities in [0, 1] of one side by FACS code


def weights_of(rule: str, codes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The weights of the codes that the rule has, as a card holds them; none by another rule."""
    return {code: WEIGHTS[code] for code in codes if code in WEIGHTS} if rule == RULE else {}


def affect_of(
    intensities: Mapping[str, float], left: Sides | None = None, right: Sides | None = None
) -> tuple[float, float]:
    """Valence and arousal in (-1, 1) that the rule expects of AU intensities by FACS code, before
    its noise.

    `left` and `right` are the person's own sides; an AU missing there is even.
    """
    valence, arousal = (
        sum(WEIGHTS[code][k] * value for code, value in intensities.items() if code in WEIGHTS)
        for k in (0, 1)
    )
    smile, dimple = intensities.get("AU12", 0.0), intensities.get("AU14", 0.0)
    valence += SMILING_EYES * intensities.get("AU6", 0.0) * smile
    softened = WEIGHTS["AU10"][0] * intensities.get("AU10", 0.0) + WEIGHTS["AU14"][0] * dimple
    valence -= SOFTENED * smile * softened
    contempt = min(1.0, 2 * min(_tilt("AU12", left, right), dimple))
    valence += contempt * (CONTEMPT[0] - WEIGHTS["AU12"][0] * smile)
    arousal += contempt * CONTEMPT[1]
    return float(np.tanh(valence)), float(np.tanh(arousal))


def rated(
    rng: Generator, expected: tuple[float, float], intensities: Mapping[str, float]
) -> tuple[float, float]:
    """Valence and arousal in [-1, 1] with a rater's noise: what is learnt from.

    `expected` is the ceiling.
    """
    sd = NOISE[0] + NOISE[1] * max(intensities.values(), default=0.0)
    valence, arousal = np.clip(np.array(expected) + sd * rng.standard_normal(2), -1, 1)
    return round(float(valence), 4), round(float(arousal), 4)


def rater(key: str) -> Generator:
    """The noise of one sample: the same for the same key, whoever labels it."""
    return np.random.default_rng(
        int.from_bytes(sha256(f"{RULE}/{key}".encode()).digest()[:8], "big")
    )


def _tilt(code: str, left: Sides | None, right: Sides | None) -> float:
    if not left or not right or code not in left or code not in right:
        return 0.0
    return abs(left[code] - right[code])
