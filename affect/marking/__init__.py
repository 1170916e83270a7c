"""Marks that say that a model drew a picture: signed claims and a watermark, and their detection.

`credentials` are the operator's certificate and key, `claims` what is said, `signing` puts it into
a file and reads it, `watermark` is in the pixels, `marker` writes whole pictures, and
`verification` says of any picture which marks it has.
"""

from affect.marking.claims import Claim
from affect.marking.credentials import CredentialsError, MarkingSettings
from affect.marking.marker import Marker, default_marker

__all__ = ["Claim", "CredentialsError", "Marker", "MarkingSettings", "default_marker"]
