"""What every worker process of `--runtime process` imports and no archive brings: the process that
workers are forked off does it once, as torch takes 1.4 s of a core.

Numbers are computed on one thread, so that there is none to lose in a fork.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import cv2  # noqa: F401
import pydantic  # noqa: F401
import torch  # noqa: F401
