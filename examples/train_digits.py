"""Time to closest APC of a real training: a small network learns the digits data, epoch by epoch.

    python examples/train_digits.py

Each epoch is a checkpoint: accuracy on held-out images, and the energy so far. The time to closest APC is the time at
which a checkpoint first reaches the best APC of the run, or a target that you give.
"""

import warnings
from importlib.util import find_spec

# Before the first run, not after the last.
MISSING = [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]
if MISSING:
    raise SystemExit(f"this example needs {', '.join(MISSING)}: pip install 'fastgreen[demo]'")

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import fastgreen as fg
from fastgreen.experiment import TrainingLog

EPOCHS = 40
TARGET = (0.90, 0.0)  # an accuracy and a consumption in Wh; the target is their APC


def main() -> None:
    pixels, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, labels, test_size=0.3, random_state=0, stratify=labels)
    model = MLPClassifier((512, 256), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.errors.FastgreenWarning)  # a machine without sensors; reported below
        monitor = fg.Monitor()
    with monitor, TrainingLog(monitor, price_per_kwh=0.30, carbon_g_per_kwh=232, period_s=0.5) as log:
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=np.arange(10))
            guess = model.predict(x_test)
            log.checkpoint(accuracy=np.mean(guess == y_test), f1=f1_score(y_test, guess, average="macro"), seen=len(x))

    table = log.table().to_pylist()
    print("epoch  elapsed s  accuracy  energy J  energy Wh")
    for row in table[:: max(1, len(table) // 10)]:
        energy = row["energy_j"]
        print(
            f"{row['epoch']:5d}  {row['elapsed_s']:9.3f}  {row['accuracy']:8.4f}  {energy:8.3f}  {energy / 3600:9.6f}"
        )
    if monitor.result.estimated:
        print("The energy is ESTIMATED from processor use: this machine has no readable sensor.")

    # The published cell of 0.1 Wh is larger than this whole training, so a thousandth of its energy is the cell.
    cell_wh = log.energy_j / 3600 / 1000
    best = log.time_to_closest_apc(consumption_delta=cell_wh)
    reached = log.time_to_closest_apc(consumption_delta=cell_wh, target=TARGET)
    print(f"time to closest APC: {best.time:.3f} s, epoch {table[best.index]['epoch']}, APC {best.apc:.6f}")
    if reached.index >= 0:
        epoch = table[reached.index]["epoch"]
        print(f"time to the APC of {TARGET[0]:.0%} accuracy: {reached.time:.3f} s, epoch {epoch}")
    else:
        print(f"the APC of {TARGET[0]:.0%} accuracy at no cost was not reached")
    row = log.row(architecture="mlp-512-256", training_environment="this machine", batch_size=200)
    print(f"whole training: {row['energy (MJ)']:.3g} MJ, {row['cost']:.3g} EUR, {row['emissions (gCO2e)']:.3g} gCO2e")


if __name__ == "__main__":
    main()
