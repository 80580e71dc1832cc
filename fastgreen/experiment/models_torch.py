"""Networks of the published series, without downloads: random weights and inputs (zeros would draw less power).

Compact definitions after the papers: AlexNet (Krizhevsky, 2014, one column), ResNet-50 (He et al., 2015), BERT-base
(Devlin et al., 2018), ViT-B/16 (Dosovitskiy et al., 2020), and the plain stack of convolutions of the benchmark that
the series come from. Parameter counts are checked in the tests against the published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["alexnet", "bert", "convnet", "images", "inference", "resnet50", "tokens", "torch_module", "vit_b16"]

BERT_VOCABULARY = 30522
BERT_POSITIONS = 512


def torch_module() -> Any:
    """Import PyTorch; ImportError with the install command if it is missing."""
    try:
        import torch
    except ImportError:
        raise ImportError("this protocol needs PyTorch: pip install 'fastgreen[torch]'") from None
    return torch


def alexnet(classes: int = 1000) -> Any:
    """AlexNet: 61 100 840 parameters with 1000 classes, for images of at least 63 pixels."""
    nn = torch_module().nn
    layers: list[Any] = []
    channels = 3
    for out, kernel, stride, padding, pool in (
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, True),
    ):
        layers += [nn.Conv2d(channels, out, kernel, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pool else []
        channels = out
    layers += [nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Dropout(), nn.Linear(256 * 36, 4096), nn.ReLU(inplace=True)]
    layers += [nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, classes)]
    return nn.Sequential(*layers)


def resnet50(classes: int = 1000) -> Any:
    """ResNet-50: 25 557 032 parameters with 1000 classes."""
    torch: Any = torch_module()
    nn: Any = torch.nn

    def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            outputs = 4 * width
            self.body = nn.Sequential(
                *convolution(inputs, width, 1),
                nn.ReLU(inplace=True),
                *convolution(width, width, 3, stride),
                nn.ReLU(inplace=True),
                *convolution(width, outputs, 1),
            )
            same = stride == 1 and inputs == outputs
            self.skip = nn.Identity() if same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.skip(x))

    layers = [*convolution(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, stride if block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def bert(layers: int = 12, width: int = 768, heads: int = 12) -> Any:
    """A BERT-like encoder with pooler: 109 482 240 parameters as BERT-base, for token ids (batch, length)."""
    torch: Any = torch_module()
    nn: Any = torch.nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(BERT_VOCABULARY, width)
            self.places = nn.Embedding(BERT_POSITIONS, width)
            self.kinds = nn.Embedding(2, width)
            self.norm = nn.LayerNorm(width)
            block = nn.TransformerEncoderLayer(width, heads, 4 * width, activation="gelu", batch_first=True)
            self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
            self.pooler = nn.Linear(width, width)

        def forward(self, ids: Any) -> Any:
            places = torch.arange(ids.shape[1], device=ids.device)
            x = self.norm(self.words(ids) + self.places(places) + self.kinds(torch.zeros_like(ids)))
            return torch.tanh(self.pooler(self.blocks(x)[:, 0]))

    return Encoder()


def vit_b16(classes: int = 1000) -> Any:
    """ViT-B/16 (Dosovitskiy et al., 2020): 86 567 656 parameters with 1000 classes, for images of 224 pixels."""
    torch: Any = torch_module()
    nn: Any = torch.nn
    patch, width, places = 16, 768, (224 // 16) ** 2 + 1

    class VisionTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, width, patch, patch)
            self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
            self.places = nn.Parameter(torch.randn(1, places, width) * 0.02)
            block = nn.TransformerEncoderLayer(
                width, 12, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(block, 12, nn.LayerNorm(width), enable_nested_tensor=False)
            self.head = nn.Linear(width, classes)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
            return self.head(self.blocks(x)[:, 0])

    return VisionTransformer()


def convnet(depth: int, filters: int = 64, image: int = 224, classes: int = 10) -> Any:
    """A stack of `depth` 3x3 convolutions of 64 filters on images of 224 pixels, then two linear layers."""
    nn = torch_module().nn
    layers: list[Any] = []
    for i in range(depth):
        layers += [nn.Conv2d(3 if i == 0 else filters, filters, 3, padding=1), nn.ReLU(inplace=True)]
    layers += [nn.Flatten(), nn.Linear(filters * image * image, 256), nn.ReLU(inplace=True), nn.Linear(256, classes)]
    return nn.Sequential(*layers, nn.Softmax(dim=1))


def images(pixels: int, batch: int = 1, seed: int = 0) -> Any:
    """Random images (batch, 3, pixels, pixels), uniform in 0..1."""
    torch = torch_module()
    return torch.rand(batch, 3, pixels, pixels, generator=torch.Generator().manual_seed(seed))


def tokens(length: int, batch: int = 1, seed: int = 0) -> Any:
    """Random token ids (batch, length), without the reserved ones."""
    torch = torch_module()
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1000, BERT_VOCABULARY, (batch, length), generator=generator)


def inference(model: Any, inputs: Any, device: str | None = None) -> Callable[[], Any]:
    """Make a function that runs one inference without gradients and waits for its end.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : tensor, or tuple of tensors
    device : str, optional
        For example ``"cpu"`` or ``"cuda"``; by default the GPU if there is one.

    Returns
    -------
    callable
        Without arguments; returns the result of the model.
    """
    torch = torch_module()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    moved = tuple(t.to(device) for t in (inputs if isinstance(inputs, tuple) else (inputs,)))
    wait = torch.cuda.synchronize if str(device).startswith("cuda") else None

    def once() -> Any:
        with torch.inference_mode():
            result = model(*moved)
        if wait is not None:
            wait()
        return result

    return once
