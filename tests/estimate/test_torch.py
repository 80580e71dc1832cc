"""Networks from PyTorch modules: every call of one pass, with the counts of PyTorch's own counter."""

import pytest

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.counts import parameters
from fastgreen.estimate.layers import FREE, KINDS
from fastgreen.estimate.network import Network
from fastgreen.estimate.torch_reader import from_torch
from tests.estimate.test_readers import counted


def torch_macs(module, *shape):
    """Half of the FLOPs that PyTorch's own counter finds."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(shape))
    return counter.get_total_flops() // 2


def residual_network():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
            self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, groups=2), nn.BatchNorm2d(width)

        def forward(self, x):
            y = nn.functional.relu(self.norm1(self.conv1(x)))
            return torch.relu(self.norm2(self.conv2(y)) + x)

    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding="valid"), nn.MaxPool2d(3, 2, 1), Block(16), Block(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 10), nn.Softmax(dim=1),
    )  # fmt: skip


def test_a_traced_module_sees_modules_functions_and_operators():
    from fastgreen.estimate.torch_reader import from_torch

    module = residual_network()
    module.train()
    layers = from_torch(module, (3, 40, 48))
    assert module.training
    assert all(part.training for part in module.modules())
    kinds = [layer.kind for layer in layers]
    assert kinds.count("Conv2d") == 5
    assert kinds.count("ReLU") == 4
    assert kinds.count("Elementwise") == 2
    assert kinds.count("BatchNorm2d") == 4
    assert counted(layers, 2) == torch_macs(residual_network(), 2, 3, 40, 48)
    assert all(layer.kind in KINDS or layer.kind in FREE for layer in layers)


def test_branches_loops_and_functions_are_read_as_they_run():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    class Branching(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.never = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

        def forward(self, x):
            for _ in range(3 if float(x.sum()) == 0 else 1):
                x = torch.tanh(self.layer(x))
            return self.never(x) if x.max() > 9 else torch.nn.functional.linear(x, self.never.weight[:2])

    layers = [layer for layer in from_torch(Branching(), (6,)) if layer.kind != "Elementwise"]
    kinds = [layer.kind for layer in layers]
    assert kinds == ["Linear", "Tanh"] * 3 + ["Reshape", "Linear"]
    assert [layer.name for layer in layers][:4] == ["layer", "tanh", "layer_1", "tanh_1"]
    assert layers[-1].sizes["bias"] == 0


def torch_zoo():
    """Modules of many kinds, each with the shape of one sample."""
    torch = pytest.importorskip("torch")
    nn, functional = torch.nn, torch.nn.functional

    class Recurrent(nn.Module):
        def __init__(self, kind, **more):
            super().__init__()
            self.cells = kind(6, 8, 2, batch_first=True, **more)

        def forward(self, x):
            return self.cells(x)[0][:, -1]

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(6, 8)

        def forward(self, x):
            state = torch.zeros(x.shape[0], 8)
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], state)
            return {"state": (state, state.argmax(1))}

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.of, self.out = nn.Linear(8, 24), nn.Linear(8, 8, bias=False)

        def forward(self, x):
            q, k, v = (t.unflatten(2, (2, 4)).transpose(1, 2) for t in self.of(x).split(8, dim=2))
            scores = (q @ k.transpose(-2, -1) / 2).softmax(-1)
            scores = scores + torch.zeros_like(scores[0]).view_as(scores[0])
            return self.out(torch.einsum("bhij,bhjd->bhid", scores, v).transpose(1, 2).reshape(x.shape))

    class Functions(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel, self.matrix = nn.Parameter(torch.zeros(8, 3, 3, 3)), nn.Parameter(torch.zeros(8, 5))

        def forward(self, x):
            x = functional.conv2d(x, self.kernel, stride=2, padding=(1, 2))
            x = functional.layer_norm(functional.batch_norm(x, torch.zeros(8), torch.ones(8)), x.shape[1:])
            x = torch.flatten(functional.adaptive_max_pool2d(x, 1), 1)
            return torch.addmm(torch.zeros(5), x @ torch.ones(8, 8), self.matrix).log_softmax(1)

    mirrored = nn.Sequential(
        nn.ConvTranspose2d(4, 8, 4, 2, 1, groups=2), nn.GroupNorm(2, 8), nn.SiLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(8, 3, 5, padding="same"), nn.InstanceNorm2d(3), nn.PixelShuffle(1), nn.ReflectionPad2d(1),
    )  # fmt: skip
    deep = nn.Sequential(
        nn.Conv3d(2, 4, (1, 3, 3), stride=2, padding=1, groups=2), nn.BatchNorm3d(4), nn.MaxPool3d(2, ceil_mode=True),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    line = nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.Hardswish(), nn.MaxPool1d(2), nn.AvgPool1d(3, 2, 1),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.PReLU(), nn.Linear(8, 2),
    )  # fmt: skip
    return {
        "residual": (residual_network(), (3, 40, 48)), "mirrored": (mirrored, (4, 8, 9)), "deep": (deep, (2, 8, 9, 7)),
        "line": (line, (4, 17)), "gru": (Recurrent(nn.GRU, bidirectional=True), (5, 6)),
        "rnn": (Recurrent(nn.RNN, nonlinearity="relu", bias=False), (5, 6)), "steps": (Steps(), (5, 6)),
        "heads": (Heads(), (5, 8)), "functions": (Functions(), (3, 16, 20)),
    }  # fmt: skip


ZOO = ("residual", "mirrored", "deep", "line", "gru", "rnn", "steps", "heads", "functions")


@pytest.mark.parametrize("name", ZOO)
def test_every_module_has_the_macs_of_pytorchs_counter_and_no_unknown_layer(name):
    from fastgreen.estimate.torch_reader import from_torch

    module, shape = torch_zoo()[name]
    layers = from_torch(module, shape)
    assert [layer.kind for layer in layers if layer.kind not in KINDS and layer.kind not in FREE] == []
    assert counted(layers, 1) == torch_macs(module, 1, *shape)


@pytest.mark.parametrize("name", ["residual", "mirrored", "deep", "gru"])
def test_layers_have_the_parameters_of_their_modules(name):
    from fastgreen.estimate.torch_reader import from_torch

    module, shape = torch_zoo()[name]
    known = [layer for layer in from_torch(module, shape) if layer.kind in KINDS]
    assert sum(int(parameters(layer.kind, **layer.sizes)) for layer in known) == sum(
        p.numel() for p in module.parameters()
    )


def test_an_lstm_is_a_layer_for_each_layer_and_direction():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    module = torch.nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
    layers = from_torch(module, (5, 6))
    assert [layer.name for layer in layers] == ["lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse"]
    assert counted(layers, 3) == 3 * 5 * 2 * (4 * 8 * (6 + 8) + 4 * 8 * (16 + 8))
    assert sum(int(parameters("LSTM", **layer.sizes)) for layer in layers) == sum(
        p.numel() for p in module.parameters()
    )


def test_attention_with_the_sequence_first_is_many_short_ones():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    class Attend(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = torch.nn.MultiheadAttention(8, 2)

        def forward(self, x):
            return self.attention(query=x, key=x, value=x, need_weights=False)[0]

    (layer,) = from_torch(Attend(), (5, 8))
    assert layer.name == "attention"
    assert (layer.sizes["rows"], layer.sizes["sequences"]) == (1, 5)


def test_several_inputs_are_given_in_order_or_by_name():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.inputs import InputShape
    from fastgreen.estimate.torch_reader import from_torch

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.image = torch.nn.Embedding(50, 6), torch.nn.Linear(4, 6)

        def forward(self, ids, image):
            return self.words(ids).mean(1) * self.image(image)

    shapes = [InputShape.parse("7:int64"), InputShape.parse("image=4")]
    layers = from_torch(Two(), shapes)
    assert [layer.kind for layer in layers] == ["Embedding", "Elementwise", "Linear", "Elementwise"]
    assert dict(layers[0].sizes) == {"entries": 50, "embed_size": 6, "rows": 7}
    assert layers[1].sizes["input_size"] == 42
    with pytest.raises(ValueError, match="must run on"):
        from_torch(Two(), shapes[:1])
    with pytest.raises(ValueError, match="int65"):
        from_torch(Two(), InputShape.parse("7:int65"))


def test_numbers_of_another_width_are_said_and_their_bytes_priced():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.inputs import InputShape
    from fastgreen.estimate.torch_reader import from_torch

    with pytest.warns(FastgreenWarning, match="bfloat16; models with prices of bytes"):
        from_torch(torch.nn.Linear(4, 2).bfloat16(), InputShape.parse("4:bfloat16"))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
def test_a_scripted_module_is_refused_and_a_compiled_one_is_read_as_it_was():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU())
    assert [layer.kind for layer in from_torch(torch.compile(module), (4,))] == ["Linear", "ReLU"]
    scripted = torch.jit.script(module)
    with pytest.raises(ValueError, match="must not be TorchScript"):
        from_torch(scripted, (4,))


@pytest.mark.parametrize("module", [3, "VGG", list])
def test_what_is_no_module_is_refused(module):
    pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    with pytest.raises(ValueError, match="must be a PyTorch module, not"):
        from_torch(module, (3,))


def test_a_transformer_block_is_read_layer_by_layer():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    block = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    layers = from_torch(block, (10, 32))
    kinds = [layer.kind for layer in layers]
    assert kinds.count("Attention") == 1
    assert kinds.count("Linear") == 2
    assert kinds.count("LayerNorm") == 2
    assert counted(layers, 3) == 3 * (4 * 10 * 32 * 32 + 2 * 10 * 10 * 32 + 2 * 10 * 32 * 64)


def test_functions_of_torch_are_read_like_their_modules():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    nn, functional = torch.nn, torch.nn.functional

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weight = nn.Conv2d(3, 4, 3), nn.Parameter(torch.zeros(5, 4 * 5 * 5))

        def forward(self, x):
            x = functional.relu(self.conv(x), inplace=True)
            x = functional.avg_pool2d(functional.max_pool2d(x, 3, stride=2, padding=1), 2, stride=1)
            return functional.linear(torch.flatten(x, 1), self.weight).softmax(dim=1)

    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1), nn.Flatten(),
        nn.Linear(100, 5, bias=False), nn.Softmax(dim=1),
    )  # fmt: skip
    ours, theirs = from_torch(Functional(), (3, 14, 14)), from_torch(module, (3, 14, 14))
    assert [layer.kind for layer in ours] == [layer.kind for layer in theirs]
    assert Network(ours).estimate(4).energy_j == pytest.approx(Network(theirs).estimate(4).energy_j, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_that_is_one_larger_on_one_side_gives_the_same_image():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    module = torch.nn.Conv2d(3, 4, (4, 5), padding="same")
    assert counted(from_torch(module, (3, 9, 8)), 1) == torch_macs(module, 1, 3, 9, 8) == 9 * 8 * 3 * 4 * 20


def test_an_unknown_module_is_listed_by_its_name():
    torch = pytest.importorskip("torch")
    from fastgreen.estimate.torch_reader import from_torch

    class Wavy(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).abs().relu()

    layers = from_torch(Wavy(), (8,))
    assert [layer.kind for layer in layers] == ["fft_rfft", "Elementwise", "ReLU"]
    assert "fft_rfft" in Network(layers).estimate(1).warnings[-1]


@pytest.mark.parametrize("shape", [(3, 40), (4, 40, 40), (0, 8, 8), ()])
def test_a_sample_that_does_not_fit_is_a_value_error(shape):
    from fastgreen.estimate.torch_reader import from_torch

    with pytest.raises(ValueError, match=r"sample of shape|input_shape"):
        from_torch(residual_network(), shape)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("turned", [False, True])
def test_every_image_of_a_sample_counts(axes, turned):
    """Heads, windows or two pictures in the place of the batch, as networks for video and optical flow have them."""
    torch = pytest.importorskip("torch")
    kind = getattr(torch.nn, f"Conv{'Transpose' if turned else ''}{axes}d")

    class Several(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = kind(3, 6, 3, stride=2, padding=1, groups=3)

        def forward(self, x):
            return self.part(x.reshape(-1, 3, *x.shape[2:]))

    layers = from_torch(Several(), [(12, *[9] * axes)])
    assert counted(layers, 1) == 4 * (9**axes if turned else 5**axes) * 6 * 3**axes


def test_an_image_without_a_batch_has_its_channels_first():
    torch = pytest.importorskip("torch")

    class Alone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.part = torch.nn.Conv2d(3, 6, 3)

        def forward(self, x):
            return self.part(x[0])

    assert counted(from_torch(Alone(), [(3, 9, 9)]), 1) == 49 * 6 * 27
