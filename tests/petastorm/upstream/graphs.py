"""Stands for Petastorm's test_tf_utils, of which other tests take `create_tf_graph`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf


def create_tf_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Runs a test within a graph of its own."""

    @functools.wraps(function)
    def within(*args: Any, **kwargs: Any) -> Any:
        with tf.Graph().as_default():
            return function(*args, **kwargs)

    return within
