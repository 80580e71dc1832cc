"""MACs and parameters: integers equal to counting one by one, to the published tables and to PyTorch's own counter."""

import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgreen.estimate.counts import macs, output_size, parameters, window_outputs
from fastgreen.estimate.layers import Layer, complete
from fastgreen.estimate.work import taps, terms
from tests.oracles.layer_data import needs_data, tables


def windows(image, kernel, stride, padding, dilation):
    """Where the windows begin, walked one by one."""
    begins, at = [], -padding
    while at + dilation * (kernel - 1) <= image - 1 + padding:
        begins.append(at)
        at += stride
    return begins


sizes = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 3),
        "image_size": st.integers(1, 12),
        "image_width": st.integers(1, 12),
        "kernel_size": st.integers(1, 5),
        "kernel_width": st.integers(1, 5),
        "stride": st.integers(1, 4),
        "stride_width": st.integers(1, 4),
        "padding": st.integers(0, 3),
        "padding_width": st.integers(0, 3),
        "dilation": st.integers(1, 3),
        "groups": st.integers(1, 3),
        "bias": st.integers(0, 1),
    }
)


def possible(s):
    return all(
        s["dilation"] * (s[k] - 1) + 1 <= s[i] + 2 * s[p]
        for i, k, p in (
            ("image_size", "kernel_size", "padding"),
            ("image_width", "kernel_width", "padding_width"),
        )
    )


@settings(max_examples=200, deadline=None)
@given(sizes.filter(possible), st.integers(1, 3), st.integers(1, 3))
def test_conv2d_equals_counting_every_window(s, inputs, outputs):
    s = {**s, "in_channels": inputs * s["groups"], "out_channels": outputs * s["groups"]}
    high = windows(s["image_size"], s["kernel_size"], s["stride"], s["padding"], s["dilation"])
    wide = windows(s["image_width"], s["kernel_width"], s["stride_width"], s["padding_width"], s["dilation"])
    per_output = sum(1 for _ in range(s["kernel_size"]) for _ in range(s["kernel_width"]) for _ in range(inputs))
    expected = s["batch_size"] * len(high) * len(wide) * s["out_channels"]
    assert int(macs("Conv2d", **s)) == expected * (per_output + s["bias"])
    assert int(macs("Conv2d", convention="standard", **s)) == expected * per_output
    met = sum(0 <= begin + k * s["dilation"] < s["image_size"] for begin in high for k in range(s["kernel_size"]))
    assert int(taps(complete("Conv2d", s))) == met


@pytest.mark.parametrize("kind", ["Conv2d", "MaxPool2d", "Linear", "ReLU", "Sigmoid", "Tanh", "Softmax"])
@needs_data
def test_macs_equal_the_published_count_on_every_row(kind):
    table = tables()[kind]
    published = pyarrow.csv.read_csv(table.source)["macs"].to_numpy().astype(np.int64)
    np.testing.assert_array_equal(table.macs(), published)


@needs_data
def test_the_tables_with_counts_have_3941_rows():
    assert sum(len(tables()[kind]) for kind in ("Conv2d", "MaxPool2d", "Linear", "ReLU")) == 3941


def torch_cases():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    image = {"image_size": 19, "image_width": 23, "in_channels": 6}
    return [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1), (2, 6, 19, 23), "Conv2d",
         {**image, "kernel_size": 3, "out_channels": 4, "stride": 2, "padding": 1}),
        (nn.Conv2d(6, 9, 3, groups=3, dilation=2, bias=False), (2, 6, 19, 23), "Conv2d",
         {**image, "kernel_size": 3, "out_channels": 9, "groups": 3, "dilation": 2, "bias": 0}),
        (nn.Conv2d(6, 6, (5, 1), groups=6, padding=(2, 0)), (2, 6, 19, 23), "Conv2d",
         {**image, "kernel_size": 5, "kernel_width": 1, "out_channels": 6, "groups": 6, "padding": 2,
          "padding_width": 0}),
        (nn.Linear(30, 7), (2, 30), "Linear", {"input_size": 30, "output_size": 7}),
        (nn.Linear(30, 7, bias=False), (2, 5, 30), "Linear",
         {"input_size": 30, "output_size": 7, "rows": 5, "bias": 0}),
        (nn.MaxPool2d(3, 2, 1), (2, 6, 19, 23), "MaxPool2d", {**image, "kernel_size": 3, "stride": 2, "padding": 1}),
        (nn.ReLU(), (2, 30), "ReLU", {"input_size": 30}),
        (nn.BatchNorm2d(6), (2, 6, 19, 23), "BatchNorm2d", {"input_size": 6 * 19 * 23, "channels": 6}),
        (nn.LayerNorm(30), (2, 5, 30), "LayerNorm", {"input_size": 150, "channels": 30}),
        (nn.RMSNorm(30), (2, 5, 30), "LayerNorm", {"input_size": 150, "channels": 30, "learnt": 1}),
        (nn.Conv3d(6, 4, (2, 3, 3), stride=2, padding=1), (2, 6, 11, 19, 23), "Conv3d",
         {**image, "image_depth": 11, "kernel_depth": 2, "kernel_size": 3, "out_channels": 4, "stride": 2,
          "padding": 1}),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 6, 19, 23),
         "ConvTranspose2d", {**image, "kernel_size": 3, "out_channels": 4, "stride": 2, "padding": 1, "groups": 2,
                             "output_padding": 1}),
        (nn.GRU(7, 5, batch_first=True), (2, 6, 7), "GRU", {"input_size": 7, "hidden_size": 5, "rows": 6}),
        (nn.RNN(7, 5, batch_first=True, bias=False), (2, 6, 7), "RNN",
         {"input_size": 7, "hidden_size": 5, "rows": 6, "bias": 0}),
    ]  # fmt: skip


def test_standard_macs_are_half_the_flops_of_pytorchs_counter():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    for module, shape, kind, layer in torch_cases():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module.eval()(torch.zeros(shape))
        assert 2 * int(macs(kind, convention="standard", batch_size=2, **layer)) == counter.get_total_flops(), module
        assert int(parameters(kind, **layer)) == sum(p.numel() for p in module.parameters()), module


def test_attention_counts_as_pytorch_does():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    layer = {"embed_size": 24, "rows": 7, "heads": 4}
    module = torch.nn.MultiheadAttention(24, 4, batch_first=True)
    sample = torch.zeros(
        3, 7, 24, requires_grad=True
    )  # a gradient keeps PyTorch off its fused path, which counts nothing
    with FlopCounterMode(display=False) as counter:
        module(sample, sample, sample, need_weights=True)
    assert 2 * int(macs("Attention", convention="standard", batch_size=3, **layer)) == counter.get_total_flops()
    assert int(parameters("Attention", **layer)) == sum(p.numel() for p in module.parameters())


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 9), st.integers(0, 12), st.integers(1, 3), st.booleans())
def test_taps_are_those_counted_one_by_one(image, kernel, stride, padding, dilation, ceil):
    kind = "MaxPool2d" if padding <= kernel // 2 else "Conv2d"
    sizes = {"batch_size": 1, "image_size": image, "kernel_size": kernel, "in_channels": 1, "stride": stride}
    more = {"ceil_mode": int(ceil)} if kind == "MaxPool2d" else {"out_channels": 1}
    if dilation * (kernel - 1) + 1 > image + 2 * padding:
        return
    columns = complete(kind, sizes | more | {"padding": padding, "dilation": dilation})
    outputs = int(window_outputs(columns))
    expected = sum(
        0 <= place * stride + k * dilation - padding < image for place in range(outputs) for k in range(kernel)
    )
    assert int(taps(columns)) == expected


def test_work_of_a_window_as_large_as_a_large_image_is_found_at_once():
    sizes = {"batch_size": 1, "image_size": 1, "image_width": 10**8, "kernel_size": 1, "kernel_width": 10**8}
    work = terms("MaxPool2d", complete("MaxPool2d", {**sizes, "in_channels": 1}))
    assert work["comparisons"] == 10**8
    assert work["new_maxima"] == pytest.approx(np.log(10**8) + np.euler_gamma - 1, rel=1e-9)
    padded = complete("Conv2d", {**sizes, "in_channels": 1, "out_channels": 1, "padding": 0, "padding_width": 1})
    assert terms("Conv2d", padded)["macs_shallow"] == (10**8 - 1) * 2 * 16 + 10**8 * 16


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_pool_output_size_is_that_of_pytorch(image, kernel, stride, padding, ceil):
    torch = pytest.importorskip("torch")
    padding = min(padding, kernel // 2)
    if kernel > image + 2 * padding:
        return
    layer = {"image_size": image, "kernel_size": kernel, "in_channels": 1, "stride": stride, "padding": padding}
    result = torch.nn.functional.max_pool2d(torch.zeros(1, 1, image, image), kernel, stride, padding, ceil_mode=ceil)
    assert int(output_size("MaxPool2d", **layer, ceil_mode=int(ceil))[0]) == result.shape[-1]


def test_counts_are_vectorised_over_any_broadcast_shape():
    batch = np.arange(1, 5)[:, None]
    outputs = np.array([10, 20, 30])
    found = macs("Linear", batch_size=batch, input_size=7, output_size=outputs)
    assert found.shape == (4, 3)
    assert found.dtype == np.int64
    assert int(found[2, 1]) == 3 * 20 * 8


def test_a_count_beyond_int64_is_an_error_and_not_a_wrap():
    with pytest.raises(OverflowError, match=r"2\*\*63"):
        macs("Linear", batch_size=2**21, input_size=2**21, output_size=2**21)
    assert int(macs("ReLU", batch_size=2**31, input_size=2**31)) == 2**62
    wide = {"image_size": 2**33, "kernel_size": 2**32, "in_channels": 1, "out_channels": 1}
    with pytest.raises(OverflowError, match="multiply-accumulates"):
        macs("Conv2d", batch_size=1, **wide)  # 2**32 * 2**32 alone wraps to 0
    with pytest.raises(OverflowError, match="parameters"):
        parameters("Conv2d", **wide)


def test_a_transposed_convolution_gives_what_pytorch_gives():
    torch = pytest.importorskip("torch")
    given = {"stride": 3, "padding": 2, "output_padding": 1, "dilation": 2}
    result = torch.nn.ConvTranspose2d(2, 4, 5, **given)(torch.zeros(1, 2, 7, 9))
    layer = {"image_size": 7, "image_width": 9, "kernel_size": 5, "in_channels": 2, "out_channels": 4, **given}
    assert tuple(int(n) for n in output_size("ConvTranspose2d", **layer)) == tuple(result.shape[2:])


@pytest.mark.parametrize("value", [2**60, 10**30, float("nan"), float("inf"), 1.5, "many", None, [1, [2]]])
def test_a_size_that_is_no_exact_whole_number_is_refused_with_its_value(value):
    with pytest.raises(ValueError, match=r"ReLU: input_size must be .*, not "):
        macs("ReLU", batch_size=1, input_size=value)


@pytest.mark.parametrize(
    ("kind", "layer", "message"),
    [
        ("MaxPool2d", {"image_size": 4, "kernel_size": 2, "in_channels": 1, "padding_width": 2},
         "padding_width 2 is more than half"),
        ("ConvTranspose2d", {"image_size": 2, "kernel_size": 1, "in_channels": 1, "out_channels": 1, "padding": 1},
         "leaves nothing"),
        ("Conv2d", {"image_size": 4, "kernel_size": 1, "in_channels": 1, "out_channels": 1, "padding": 2**30},
         "padding 1073741824 is more than"),
        ("Conv2d", {"image_size": 4, "kernel_size": 7, "in_channels": 1, "out_channels": 1, "padding": 1},
         "kernel of 7 .* padded image of 6"),
        ("Conv2d", {"image_size": 9, "kernel_size": 5, "in_channels": 1, "out_channels": 1, "dilation": 3},
         "kernel of 13 .* padded image of 9"),
        ("Conv2d", {"image_size": 0, "kernel_size": 1, "in_channels": 1, "out_channels": 1},
         "image_size must be at least 1, not 0"),
        ("Conv2d", {"image_size": 4, "kernel_size": 1, "in_channels": 3, "out_channels": 4, "groups": 2},
         "in_channels 3 does not divide"),
        ("MaxPool2d", {"image_size": 9, "kernel_size": 2, "in_channels": 1, "padding": 2},
         "padding 2 is more than half"),
        ("Linear", {"input_size": -3, "output_size": 4}, "input_size must be at least 1, not -3"),
        ("Linear", {"input_size": True, "output_size": 4}, "input_size must be a whole number, not True"),
        ("Linear", {"input_size": 2.5, "output_size": 4}, "input_size must be a whole number, not 2.5"),
        ("Linear", {"input_size": 3}, "needs output_size"),
        ("Linear", {"input_size": 3, "output_size": 4, "stride": 1}, "no size 'stride'"),
        ("Conv9d", {}, "kind must be one of .* not 'Conv9d'"),
    ],
)  # fmt: skip
def test_an_impossible_layer_is_named_with_its_first_wrong_size(kind, layer, message):
    with pytest.raises(ValueError, match=message):
        macs(kind, batch_size=1, **layer)


def test_the_first_bad_value_of_an_array_is_named():
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        macs("ReLU", batch_size=[3, 0, -1], input_size=5)


def test_a_layer_of_an_unknown_kind_can_be_listed_but_not_counted():
    assert Layer("Wavelet", {}).kind == "Wavelet"
    with pytest.raises(ValueError, match="Wavelet"):
        macs("Wavelet", batch_size=1)
