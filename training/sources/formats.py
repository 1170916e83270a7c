"""Every format that `affectgan data import` knows, by name."""

from training.sources.abaw import Abaw
from training.sources.afewva import AfewVa
from training.sources.affectnet import AffectNet
from training.sources.affwild2 import AffWild2
from training.sources.bp4d import Bp4d
from training.sources.csv import PlainCsv
from training.sources.disfa import Disfa
from training.sources.emotionet import EmotioNet
from training.sources.facemotion import FaceMotion
from training.sources.pictures import Pictures
from training.sources.record import Source

FORMATS: dict[str, type[Source]] = {
    source.name: source
    for source in (
        Abaw,
        AffWild2,
        AffectNet,
        AfewVa,
        Bp4d,
        Disfa,
        EmotioNet,
        FaceMotion,
        Pictures,
        PlainCsv,
    )
}
