"""TensorFlow in the process of the tests."""

from __future__ import annotations

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what it says of CUDA and oneDNN at every import
