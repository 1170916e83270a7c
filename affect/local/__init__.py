"""The model in this process: reads, draws and explains pictures without a server. Needs the extra
`local`.
"""

from affect.local.reader import Reader
from affect.local.reading import ActionUnit, Reading
from affect.local.readings import Readings
from affect.local.video import VideoError

__all__ = ["ActionUnit", "Reader", "Reading", "Readings", "VideoError"]
