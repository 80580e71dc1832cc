"""The sparse studies: methods equal the definitions of their papers, weights are counted exactly, tables are made."""

from __future__ import annotations

import csv
import importlib
import math
import subprocess
import sys

import pytest

from tests.oracles.places import EXAMPLES

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

FOLDER = EXAMPLES / "sparse"
NAMES = ("kernels", "measure", "networks", "prune", "pruning", "rewire", "rewiring", "savings")


@pytest.fixture(scope="module")
def sparse():
    """The modules of the folder, by name, as a script in it imports them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for name in NAMES:
        del sys.modules[name]
    torch.set_num_threads(threads)


def batch(networks, channels, pixels, count=8):
    images, labels, *_ = networks.digits(channels, pixels, count)
    return images, labels


@pytest.mark.parametrize(
    ("architecture", "total", "pruned", "kept"),
    [("LeNet5-Caffe", 430_500, 0.98, 8_610), ("VGG-D", 15_239_872, 0.95, 761_994)],
)
@pytest.mark.parametrize("method", ["snip", pytest.param("force", marks=pytest.mark.slow)])
def test_the_weights_are_those_of_the_papers(sparse, architecture, total, pruned, kept, method):
    networks, pruning = sparse["networks"], sparse["pruning"]
    make, channels, pixels = networks.ARCHITECTURES[architecture]
    torch.manual_seed(0)
    network = make()
    assert sum(w.numel() for w in networks.weights(network)) == total
    assert pruning.kept_weights(network, pruned) == kept
    steps = {"steps": 2} if method == "force" else {}
    masks = pruning.METHODS[method](network, *batch(networks, channels, pixels, 4), pruned, **steps)
    assert sum(int(mask.sum()) for mask in masks) == kept
    assert pruning.count_nonzero(network) == total  # the method itself changes nothing
    pruning.apply(network, masks)
    assert pruning.count_nonzero(network) == kept


def test_pruned_weights_stay_zero_in_the_training(sparse):
    networks, pruning = sparse["networks"], sparse["pruning"]
    torch.manual_seed(0)
    network = networks.dense_network(784, 20, 10)
    x, y = batch(networks, 1, 28, 50)
    pruning.apply(network, pruning.snip(network, x, y, 0.9))
    kept = pruning.count_nonzero(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(5):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    assert pruning.count_nonzero(network) == kept == pruning.kept_weights(network, 0.9)


def test_the_saliency_is_the_effect_of_a_factor_in_front_of_each_weight(sparse):
    """The slow twin: the loss with the factor 1 + h and with 1 - h, one weight after another."""
    networks, pruning = sparse["networks"], sparse["pruning"]
    torch.manual_seed(0)
    network = networks.dense_network(784, 3, 10).double()
    x, y = batch(networks, 1, 28)
    x = x.double()
    found = pruning.saliencies(network, x, y)[1]
    weight = networks.weights(network)[1]
    with torch.no_grad():
        for row, column in ((0, 0), (4, 2), (9, 1)):
            losses = []
            whole = weight[row, column].item()
            for factor in (1 + 1e-5, 1 - 1e-5):
                weight[row, column] = whole * factor
                losses.append(torch.nn.functional.cross_entropy(network(x), y).item())
                weight[row, column] = whole
            assert found[row, column].item() == pytest.approx(abs(losses[0] - losses[1]) / 2e-5, rel=1e-4, abs=1e-9)


def test_force_keeps_fewer_weights_in_each_step_and_lets_weights_come_back(sparse):
    networks, pruning = sparse["networks"], sparse["pruning"]
    counts = pruning.force_schedule(10_000, 100, 4)
    assert counts == [round(10_000 * 0.01 ** (step / 4)) for step in (1, 2, 3)] + [100]
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        pruning.force_schedule(10, 5, 0)
    torch.manual_seed(0)
    network = networks.dense_network(784, 20, 10)
    x, y = batch(networks, 1, 28, 50)
    assert all(
        torch.equal(a, b)
        for a, b in zip(pruning.force(network, x, y, 0.9, 1), pruning.snip(network, x, y, 0.9), strict=True)
    )
    masks, back = None, 0
    for count in pruning.force_schedule(15_880, 500, 6):
        before = masks
        masks = pruning.masks_of_largest(pruning.saliencies(network, x, y, masks), count)
        if before is not None:
            back += sum(int(((m == 1) & (b == 0)).sum()) for m, b in zip(masks, before, strict=True))
    assert back > 0


def test_equal_saliencies_leave_the_exact_number(sparse):
    pruning = sparse["pruning"]
    masks = pruning.masks_of_largest([torch.ones(3, 3), torch.ones(5)], 4)
    assert sum(mask.sum().item() for mask in masks) == 4
    with pytest.raises(ValueError, match="pruned must be 0 or above and below 1, not 1"):
        pruning.kept_weights(sparse["networks"].dense_network(4, 2), 1)


# ---- deep rewiring ----


def rewired(sparse, variant, steps=30):
    networks = sparse["networks"]
    torch.manual_seed(0)
    network = networks.dense_network(784, 40, 10)
    rewiring = sparse["rewiring"].Rewiring(network, variant, 0.1, rate=0.5, temperature=1e-4)
    x, y = batch(networks, 1, 28, 50)
    history = []
    for _ in range(steps):
        torch.nn.functional.cross_entropy(network(x), y).backward()
        rewiring.step()
        history.append([theta >= 0 for theta in rewiring.thetas])
    return network, rewiring, history


def test_deep_r_keeps_the_number_of_each_layer_and_the_signs(sparse):
    _, rewiring, history = rewired(sparse, "deep r")
    assert rewiring.counts == [3136, 40]
    assert {tuple(int(layer.sum()) for layer in moment) for moment in history} == {(3136, 40)}
    assert not torch.equal(history[0][0], history[-1][0])  # connections came and went
    for weight, sign, theta in zip(rewiring.weights, rewiring.signs, rewiring.thetas, strict=True):
        assert torch.equal(weight, sign * theta.clamp(min=0))
        assert bool((weight[theta < 0] == 0).all())


def test_the_global_constraint_keeps_the_sum_and_moves_connections_between_layers(sparse):
    _, rewiring, history = rewired(sparse, "global")
    counts = [[int(layer.sum()) for layer in moment] for moment in history]
    assert {sum(layers) for layers in counts} == {3176}
    assert len({tuple(layers) for layers in counts}) > 1
    assert rewiring.active == 3176


def test_soft_deep_r_walks_within_its_lowest_theta_and_its_number_varies(sparse):
    _, rewiring, history = rewired(sparse, "soft")
    assert rewiring.counts == [1568, 20]  # half of the limit
    assert len({sum(int(layer.sum()) for layer in moment) for moment in history}) > 1
    assert all(bool((theta >= rewiring.lowest - 1e-9).all()) for theta in rewiring.thetas)


def test_an_active_connection_follows_the_definition(sparse):
    """theta - rate (gradient sign + l1), without the random walk."""
    networks = sparse["networks"]
    torch.manual_seed(0)
    network = networks.dense_network(784, 10)
    rewiring = sparse["rewiring"].Rewiring(network, "deep r", 0.5, rate=0.1, l1=0.01, temperature=0.0)
    (theta,), (sign,), (weight,) = [x.clone() for x in rewiring.thetas], rewiring.signs, rewiring.weights
    torch.nn.functional.cross_entropy(network(batch(networks, 1, 28)[0]), batch(networks, 1, 28)[1]).backward()
    wanted = theta - 0.1 * (weight.grad * sign + 0.01)
    rewiring.step()
    stays = (theta >= 0) & (wanted >= 0)
    assert torch.allclose(rewiring.thetas[0][stays], wanted[stays])
    for bad, said in (({"variant": "hard"}, "variant must be one of"), ({"connectivity": 0}, "must be above 0")):
        with pytest.raises(ValueError, match=said):
            sparse["rewiring"].Rewiring(network, **bad)


# ---- kernels ----


@pytest.mark.parametrize("how", range(3))
def test_the_kernels_give_the_answers_of_the_network(sparse, how):
    networks, kernels, pruning = sparse["networks"], sparse["kernels"], sparse["pruning"]
    torch.manual_seed(0)
    network = networks.dense_network(784, 30, 20, 10).eval()
    x, y = batch(networks, 1, 28, 12)
    pruning.apply(network, pruning.snip(network, x, y, 0.9))
    once = list(kernels.RUN.values())[how](network, x)
    for _ in range(2):  # a kernel that works in place must not change its inputs
        torch.testing.assert_close(torch.as_tensor(once()), network(x).detach(), atol=1e-5, rtol=1e-4)


def test_structured_pruning_keeps_at_most_as_many_weights(sparse):
    networks, kernels = sparse["networks"], sparse["kernels"]
    for keep in (1000, 9999, 20_000):
        width = kernels.narrow_width(784, 10, keep)
        assert width * width + 794 * width <= keep < (width + 1) ** 2 + 794 * (width + 1)
    torch.manual_seed(0)
    network = networks.dense_network(784, 64, 64, 10)
    small = kernels.without_neurons(network, *batch(networks, 1, 28), 9000)
    first, second, last = networks.weights(small)
    assert [tuple(w.shape) for w in (first, second, last)] == [(11, 784), (11, 11), (10, 11)]
    rows = {tuple(row.tolist()) for row in networks.weights(network)[0]}
    assert all(tuple(row.tolist()) in rows for row in first)  # neurons of the whole network
    with pytest.raises(ValueError, match="keep must leave a neuron of each layer, not 10 weights"):
        kernels.narrow_width(784, 10, 10)


# ---- the studies, tiny ----


def test_the_pruning_study_continues_and_prints_its_tables(sparse, tmp_path, monkeypatch, capsys):
    prune = sparse["prune"]
    words = ["prune", "snip", "--seeds", "1", "--epochs", "1", "--levels", "0.98", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    prune.main()
    shown = capsys.readouterr().out
    assert "LeNet5-Caffe, pruned 0.98, seed 0: " in shown
    assert "architecture  data    pruned  parameters  time" in shown
    assert "8,610" in shown
    (row,) = csv.DictReader((tmp_path / "snip" / "runs.csv").open())
    assert float(row["low"]) <= float(row["joules"]) <= float(row["high"])
    prune.main()
    assert "seed 0:" not in capsys.readouterr().out  # it was done
    monkeypatch.setattr(sys, "argv", [*words, "--epochs", "2"])
    with pytest.raises(SystemExit, match="holds a study with"):
        prune.main()


@pytest.mark.slow
def test_the_rewiring_study_sets_the_wall_meter_beside_the_inner_one(sparse, tmp_path, monkeypatch, capsys):
    import time

    wall, now = tmp_path / "wall.csv", time.time()
    lines = [f"{now - 60 + second},True,50" for second in range(1200)]
    wall.write_text("#timestamp,#frame_is_ok,#activepow1\n" + "\n".join(lines) + "\n")
    words = ["--seeds", "1", "--epochs", "1", "--wall", str(wall), "-o", str(tmp_path / "s")]
    monkeypatch.setattr(sys, "argv", ["rewire", *words])
    sparse["rewire"].main()
    assert "J at the wall" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "s" / "runs.csv").open()))
    assert [row["variant"] for row in rows] == ["dense", "deep r", "global", "soft"]
    assert [int(row["active"]) for row in rows[:3]] == [266_200, 26_620, 26_620]
    for row in rows:  # 50 W at the wall
        assert float(row["wall"]) / 50 == pytest.approx(float(row["seconds"]), rel=0.2, abs=0.5)


def test_the_savings_are_a_table_and_a_picture(sparse, tmp_path, capsys):
    what = sparse["savings"]
    trained = what.Trained((784, 32, 32, 10), epochs=1, images=200)
    rows = what.study(tmp_path / "study", trained, [0.9], batch=1, iterations=20, repeats=2)
    assert [row["variant"] for row in rows] == ["whole", *sparse["kernels"].KERNELS, what.STRUCTURED]
    whole, *pruned = rows
    assert whole["weights"] == 784 * 32 + 32 * 32 + 320
    assert {row["weights"] for row in pruned[:3]} == {2643}
    assert pruned[3]["weights"] <= 2643
    for row in rows:
        assert row["low"] <= row["joules"] <= row["high"]
        assert row["apc_low"] <= row["apc"] <= row["apc_high"]
        assert row["ttcapc_low"] <= row["ttcapc"] <= row["ttcapc_high"]
    assert math.isfinite(whole["ttcapc"])
    what.table(rows, 1)
    assert "zeros in dense matrices" in capsys.readouterr().out
    what.save(rows, tmp_path / "table.csv")
    what.picture(rows, tmp_path / "picture.png", 1)
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert len(list(csv.DictReader((tmp_path / "table.csv").open()))) == 5


@pytest.mark.parametrize("name", ["prune", "rewire", "savings"])
def test_a_missing_package_is_one_sentence_before_the_first_run(name):
    """`-S` leaves the installed packages out."""
    done = subprocess.run([sys.executable, "-S", FOLDER / f"{name}.py"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("this example needs torch, sklearn, ")
    assert len(done.stderr.splitlines()) == 1
