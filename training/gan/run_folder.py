"""The layout of a run folder.

The model in it is a folder of its own (`affect.factory`), so that a run and a bare model can be
given alike (`affect.model_folders.model_folder`).
"""

from affect.model_folders import MODEL_FOLDER as MODEL_FOLDER

CONFIG_FILE = "config.json"  # what the run is: data, settings, the weights it began at
LOG_FILE = "log.jsonl"  # how it went: a line every so many images
SAMPLES_FOLDER = "samples"  # what it drew on its way
