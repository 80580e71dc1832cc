"""The inference study for your own model. Here it is a small network, trained on the digits data, and the size is the
number of images in one inference.

    fastgreen bench examples/own_model_study.py:protocol --order rounds -o out/study
    fastgreen compile out/study

You can stop it at any time; the same first command continues it. For your own model, write a function `build` that
takes a size and returns a function without arguments that makes one inference. Prepare everything before you return
it, because only that function is measured.
"""

from functools import cache
from importlib.util import find_spec

# Before the first run, not after the last.
MISSING = [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]
if MISSING:
    raise SystemExit(f"this example needs {', '.join(MISSING)}: pip install 'fastgreen[study]'")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from fastgreen.experiment import for_callable

SIZES = range(50, 1001, 50)
IMAGES_PER_RUN = 240_000  # about half a second: several updates of any counter


@cache
def network():
    pixels, labels = load_digits(return_X_y=True)
    model = MLPClassifier((128, 64), random_state=0)
    for _ in range(40):
        model.partial_fit(pixels / 16, labels, classes=range(10))
    return model, pixels / 16


def build(size):
    threadpool_limits(1)  # a network this small gains nothing from threads that wait for each other
    model, pixels = network()
    images = pixels[np.random.default_rng(size).integers(0, len(pixels), size)]
    return lambda: model.predict_proba(images)


protocol = for_callable(
    build, SIZES, factory=True, iterations=lambda size: IMAGES_PER_RUN // size, name="digits-mlp", size_unit="images"
)
