"""Trade-offs and statistics, against a few independent lines of scipy and against brute force."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgreen.errors import TraceError
from fastgreen.experiment.pictures import _without_tail, pareto_front
from fastgreen.experiment.statistics import cliffs_delta, delta_size, dunn_holm, kruskal, pareto, rank_correlation
from fastgreen.experiment.tradeoffs import tradeoff
from tests.oracles.places import SHARED

stats = pytest.importorskip("scipy.stats")
scikit_posthocs = pytest.importorskip("scikit_posthocs")
RUNS = SHARED / "training-runs" / "runs.parquet"
published = pytest.mark.skipif(not RUNS.exists(), reason=f"the published table is not at {RUNS}")


@published
def test_the_largest_reduction_of_the_published_study():
    result = tradeoff(RUNS, repeats=30)
    assert result.largest["reduction"] == pytest.approx(0.8138637397, abs=1e-10)
    assert result.largest["from"] == "vgg16 / Local ML Engineer/Gamer"
    assert result.largest["to"] == "mobilenet_v2 / Local ML Engineer/Gamer"
    assert (result.left_out, result.beyond) == (0, 9)
    assert tradeoff(RUNS).left_out == 0


@published
def test_the_published_table_against_a_few_lines_of_pandas_and_scipy():
    pd = pytest.importorskip("pandas")
    posthocs = pytest.importorskip("scikit_posthocs")
    runs = pd.read_parquet(RUNS)
    runs = runs[runs["run"] < 30]
    runs["e"] = runs["energy (MJ)"] * 1e6 / runs["total seen images"]
    result = tradeoff(RUNS, repeats=30)

    medians = runs.groupby(["architecture", "training environment"])[["e", "f1-score"]].median()
    points = list(medians.itertuples(index=True, name=None))
    front = {
        f"{i[0]} / {i[1]}"
        for i, e, f in points
        if not any(e2 <= e and f2 >= f and (e2, f2) != (e, f) for _, e2, f2 in points)
    }
    assert set(result.pareto) == front

    for factor in ("architecture", "training environment"):
        split = [g["e"].to_numpy() for _, g in runs.groupby(factor, sort=False)]
        h, p = stats.kruskal(*split)
        row = next(r for r in result.tests.to_pylist() if r["value"] == "energy per work" and r["by"] == factor)
        assert (row["h"], row["p"]) == pytest.approx((h, p), rel=1e-12)
        assert row["eta_squared"] == pytest.approx((h - len(split) + 1) / (len(runs) - len(split)), rel=1e-12)
        dunn = posthocs.posthoc_dunn(runs, val_col="e", group_col=factor, p_adjust="holm")
        mine = [r for r in result.dunn.to_pylist() if r["value"] == "energy per work" and r["by"] == factor]
        assert len(mine) == len(split) * (len(split) - 1) // 2
        for r in mine:
            assert r["p_holm"] == pytest.approx(dunn.loc[r["a"], r["b"]], rel=1e-9)
    rho = {r["column"]: r["rho"] for r in result.spearman.to_pylist()}
    for name in ("gpu usage (%)", "average temperature (Celsius)", "GFLOPs"):
        assert rho[name] == pytest.approx(stats.spearmanr(runs[name], runs["e"]).statistic, rel=1e-9)


def table(**columns):
    return {
        "architecture": ["a", "a", "b", "b"],
        "energy_j": [4.0, 4.0, 1.0, 1.0],
        "accuracy": [0.9, 0.9, 0.8, 0.8],
        **columns,
    }


def test_one_table_says_what_is_saved_and_what_it_costs():
    result = tradeoff(table())
    (change,) = result.changes.to_pylist()
    assert (change["from"], change["to"], change["reduction"]) == ("a", "b", 0.75)
    assert change["quality_change"] == pytest.approx(-0.1)
    assert change["answer"].startswith("saves 75.0%, costs 0.1000")
    assert result.pareto == ["b", "a"]


def test_a_table_with_one_group_answers_that_there_is_nothing_to_compare():
    result = tradeoff(table(architecture=["a"] * 4))
    assert result.largest == {}
    assert result.pairs.num_rows == result.changes.num_rows == 0
    assert set(result.tests.column("answer").to_pylist()) == {"1 group: nothing to compare"}
    assert result.pareto == ["a"]


def test_a_table_with_ties_only_answers_that_all_values_are_equal():
    result = tradeoff(table(energy_j=[2.0] * 4, accuracy=[0.9] * 4))
    assert result.largest["reduction"] == 0.0
    assert set(result.tests.column("answer").to_pylist()) == {"all 4 values are equal: no difference to find"}
    assert result.changes.to_pylist()[0]["effect"] == "negligible"
    assert result.pareto == ["a", "b"]


def test_one_run_per_group_has_no_spread_to_test_with():
    result = tradeoff({"model": ["a", "b"], "energy_j": [1.0, 2.0], "accuracy": [0.1, 0.2]})
    assert result.tests.to_pylist()[0]["answer"].startswith("one value per group")


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"by": ["nowhere"]}, "by must be of the columns .*, not 'nowhere'"),
        ({}, {"by": ["architecture", "energy_j", "accuracy"]}, "by must be one or two columns"),
        ({}, {"energy": "watts"}, "energy must be one of .*, not 'watts'"),
        ({}, {"quality": "architecture"}, "quality: column 'architecture' must hold numbers, not string"),
        ({"power": [1, 2, 3, 4]}, {"energy": "power"}, "energy_unit must be given for column 'power'"),
        ({}, {"energy_unit": "BTU"}, "energy_unit must be one of .*not 'BTU'"),
        ({}, {"repeats": 0}, "repeats must be at least 1, not 0"),
        ({"energy_j": [0.0, -1.0, float("nan"), None]}, {}, "a run with a positive energy_j"),
    ],
)
def test_bad_tables_and_arguments_name_what_is_wrong(columns, options, message):
    with pytest.raises(ValueError, match=message):
        tradeoff(table(**columns), **options)


@pytest.mark.parametrize(
    ("name", "joules"),
    [("energy (MJ)", 1e6), ("energy (kWh)", 3.6e6), ("e_wh", 3600.0), ("e_j", 1.0), ("gpu_energy", 3.6e6)],
)
def test_the_unit_is_taken_from_the_name(name, joules):
    result = tradeoff({"model": ["a", "b"], name: [1.0, 2.0], "accuracy": [0.1, 0.2]}, energy=name)
    assert result.groups.column("energy_per_work_j").to_pylist()[0] == pytest.approx(joules)


def test_a_table_of_codecarbon_has_its_energy_in_kwh():
    runs = {"project_name": ["a", "b"], "energy_consumed": [0.5, 0.25], "accuracy": [0.9, 0.8]}
    result = tradeoff(runs, by="project_name")
    assert sorted(result.groups.column("energy_per_work_j").to_pylist()) == pytest.approx([0.9e6, 1.8e6])


def test_tables_come_from_arrow_parquet_csv_and_pandas(tmp_path):
    from fastgreen.table_files import save_table

    source = pa.table(table())
    expected = tradeoff(source).groups
    for name in ("t.arrow", "t.parquet", "t.csv"):
        save_table(source, tmp_path / name)
        assert tradeoff(tmp_path / name).groups.equals(expected)
    assert tradeoff(pytest.importorskip("pandas").DataFrame(table())).groups.equals(expected)
    with pytest.raises(TypeError, match="not int"):
        tradeoff(5)


NUMBERS = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


@given(NUMBERS, NUMBERS)
def test_cliffs_delta_equals_counting_every_pair(a, b):
    slow = sum((x > y) - (x < y) for x, y in itertools.product(a, b)) / (len(a) * len(b))
    assert cliffs_delta(np.array(a), np.array(b)) == pytest.approx(slow, abs=1e-15)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_pareto_equals_asking_every_point_about_every_other(points):
    cost, gain = np.array(points, float).T
    slow = [not any(c <= x and g >= y and (c < x or g > y) for c, g in points) for x, y in points]
    assert pareto(cost, gain).tolist() == slow


@settings(deadline=None, max_examples=25)
@given(st.lists(NUMBERS, min_size=2, max_size=5))
def test_kruskal_and_dunn_never_fail_and_agree_with_scipy(groups):
    split = {str(i): np.array(g) for i, g in enumerate(groups)}
    test = kruskal(split)
    flat = [x for g in groups for x in g]
    if len(set(flat)) > 1 and len(flat) > len(groups):
        assert test.h == pytest.approx(stats.kruskal(*groups).statistic, rel=1e-12)
        assert len(dunn_holm(split)) == len(groups) * (len(groups) - 1) // 2
    else:
        assert test.h is None
        assert dunn_holm(split) == {}


def test_small_answers():
    assert [delta_size(d) for d in (0.1, -0.2, 0.4, -1.0, float("nan"))] == [
        "negligible",
        "small",
        "medium",
        "large",
        "unknown",
    ]
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([5.0, 5, 5])) == (None, None, 3)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 4, 9]))[0] == 1.0
    assert pareto(np.array([1.0, np.nan]), np.array([1.0, 5.0])).tolist() == [True, False]


# ---- tables as they come ----


def test_two_columns_of_one_name_are_told(tmp_path):
    file = tmp_path / "twice.csv"
    file.write_text("architecture,energy_j,accuracy,accuracy\na,1,0.5,1\nb,2,0.6,1\n")
    with pytest.raises(TraceError, match="two columns are called 'accuracy'"):
        tradeoff(file)


def test_a_table_without_rows_is_refused(tmp_path):
    file = tmp_path / "empty.csv"
    file.write_text("architecture,energy_j,accuracy\n")
    with pytest.raises(ValueError, match="table must have at least one row"):
        tradeoff(file)


def test_one_column_cannot_be_both_factors():
    table = {"architecture": ["a", "b"], "energy_j": [4.0, 1.0], "accuracy": [0.9, 0.8]}
    with pytest.raises(ValueError, match="by must name different columns, not 'architecture' twice"):
        tradeoff(table, ["architecture", "architecture"])


def test_a_run_without_its_factor_belongs_to_no_group():
    table = {"architecture": ["a", None, "", " ", "b"], "energy_j": [4.0, 1.0, 1.0, 1.0, 2.0], "accuracy": [0.9] * 5}
    result = tradeoff(table)
    assert result.groups.column("group").to_pylist() == ["b", "a"]
    assert result.left_out == 3


def test_runs_beyond_the_first_repeats_are_counted_apart_from_bad_ones():
    table = {"architecture": ["a"] * 5, "energy_j": [4.0, -1.0, 2.0, 3.0, 5.0], "accuracy": [0.9] * 5}
    result = tradeoff(table, repeats=2)
    assert (result.runs.num_rows, result.left_out, result.beyond) == (2, 1, 2)
    assert result.runs.column("energy_j").to_pylist() == [4.0, 2.0]


def test_a_change_says_of_both_sides_whether_a_test_shows_them():
    rng = np.random.default_rng(0)
    runs = {"architecture": np.repeat(["a", "b", "c"], 20), "energy_j": rng.normal(np.repeat([10, 5, 5], 20), 0.1)}
    runs["accuracy"] = rng.normal(np.repeat([0.9, 0.9, 0.6], 20), 0.01)
    split = {name: runs["accuracy"][runs["architecture"] == name] for name in "abc"}
    expected = scikit_posthocs.posthoc_dunn(list(split.values()), p_adjust="holm").to_numpy()
    rows = {(r["from"], r["to"]): r for r in tradeoff(pa.table(runs)).changes.to_pylist()}
    assert rows["a", "b"]["quality_p_holm"] == pytest.approx(expected[0, 1])
    assert rows["a", "c"]["quality_p_holm"] == pytest.approx(expected[0, 2])
    assert rows["a", "c"]["quality_cliffs_delta"] == 1.0
    assert rows["a", "b"]["answer"].endswith("; the difference in correctness is not shown by the test")
    assert "not shown" not in rows["a", "c"]["answer"]


def test_a_table_of_many_groups_is_compared_in_seconds_and_drawn(tmp_path):
    rng = np.random.default_rng(0)
    table = {"architecture": [f"m{i}" for i in range(400)], "energy_j": rng.random(400), "accuracy": rng.random(400)}
    began = time.process_time()
    result = tradeoff(table)
    figure = pareto_front(result)
    figure.savefig(tmp_path / "many.png")
    assert time.process_time() - began < 20.0
    words = {text.get_text() for text in figure.axes[0].texts}
    assert set(result.pareto) <= words
    assert len(words) < 60


def test_holms_correction_equals_the_librarys():
    rng = np.random.default_rng(2)
    for groups in (2, 3, 6):
        split = {f"g{i}": rng.normal(0.3 * i, 1, 8).round(1) for i in range(groups)}
        table = scikit_posthocs.posthoc_dunn(list(split.values()), p_adjust="holm").to_numpy()
        found = dunn_holm(split)
        assert len(found) == groups * (groups - 1) // 2
        for (a, b), p in found.items():
            assert p == pytest.approx(table[int(a[1:]), int(b[1:])], rel=1e-12)


def test_pairs_and_medians_equal_numpys():
    rng = np.random.default_rng(1)
    names = rng.choice(list("abcd"), 50)
    energy, quality = rng.random(50) + 0.1, rng.random(50)
    result = tradeoff({"architecture": names, "energy_j": energy, "accuracy": quality})
    for row in result.pairs.to_pylist():
        x, y = (np.median(energy[names == row[k]]) for k in ("from", "to"))
        assert row["reduction"] == pytest.approx((x - y) / x)
        assert row["quality_change"] == np.median(quality[names == row["to"]]) - np.median(
            quality[names == row["from"]]
        )


def test_bounds_of_the_energy_are_no_quantities_to_correlate_with_it():
    runs = {"architecture": list("aabb"), "run": [1, 2, 1, 2], "energy (MJ)": [1.0, 2.0, 3.0, 4.0]}
    runs |= {"energy low (MJ)": [0.9, 1.9, 2.9, 3.9], "energy high (MJ)": [1.1, 2.1, 3.1, 4.1]}
    runs |= {"accuracy": [0.5, 0.6, 0.7, 0.6]}
    assert tradeoff(runs).spearman["column"].to_pylist() == ["energy (MJ)", "accuracy"]


def test_names_that_differ_in_a_nul_are_two_groups():
    runs = {
        "architecture": ["a", "a\0", "a", "a\0"],
        "energy_j": [4.0, 1.0, 4.0, 1.0],
        "accuracy": [0.9, 0.8, 0.9, 0.8],
    }
    result = tradeoff(runs)
    assert sorted(result.groups["group"].to_pylist()) == ["a", "a\0"]
    assert result.groups["runs"].to_pylist() == [2, 2]


def test_more_groups_than_can_be_compared_are_refused():
    runs = {"architecture": [f"m{i}" for i in range(501)], "energy_j": [1.0] * 501, "accuracy": [0.5] * 501}
    with pytest.raises(ValueError, match="by must make at most 500 groups, not 501"):
        tradeoff(runs)


def test_twelve_datasets_are_told_apart_inside_the_axes_and_a_transformed_axis_is_reported():
    rows = [(a, d, (a + 1.0) * (d + 1.0), 1 - 0.3 / (1 + a + d)) for a in range(3) for d in range(12)]
    names, data, energy, quality = zip(*rows, strict=True)
    table = {"architecture": [f"n{a}" for a in names], "data": [f"d{d}" for d in data], "energy_j": energy}
    figure = pareto_front(tradeoff({**table, "accuracy": quality}, by=("architecture", "data")))
    axes = figure.axes[0]
    points = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert len(points) == 12
    assert len({(line.get_color(), line.get_marker()) for line in points}) == 12
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for x, y in np.concatenate([line.get_xydata() for line in points]):
        assert left < x < right
        assert low < y < high
    assert axes.get_yscale() == "function"
    assert "logarithmic scale of 1 - accuracy" in axes.get_ylabel()
    plain = pareto_front(tradeoff({"architecture": ["a", "b"], "energy_j": [1.0, 2.0], "accuracy": [0.5, 0.6]}))
    assert plain.axes[0].get_yscale() == "linear"
    assert "scale" not in plain.axes[0].get_ylabel()


def test_a_curve_of_a_counter_does_not_end_in_a_false_zero():
    def steps(*pairs: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ends = np.cumsum([0.0, *(length for length, _ in pairs)])
        time_ns = (np.column_stack([ends[:-1], ends[1:]]).ravel() * 1e9).astype(np.int64)
        return time_ns, np.zeros(time_ns.size, np.int32), np.repeat([watts for _, watts in pairs], 2).astype(float)

    assert _without_tail(*steps((1, 50), (1, 60), (0.4, 0)))[2].tolist() == [50, 50, 60, 60]
    for kept in ([(1, 50), (5, 0)], [(1, 50), (0.4, 0), (1, 60)], [(0.4, 0)], [(1, 0), (1, 0)], []):
        given = steps(*kept)
        assert [len(column) for column in _without_tail(*given)] == [len(column) for column in given], kept
