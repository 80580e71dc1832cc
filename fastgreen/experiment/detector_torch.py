# SPDX-License-Identifier: Apache-2.0
"""The detector of the published summary: SSDLite320 on MobileNetV3-Large, with random weights.

After the papers: MobileNetV3 with its last blocks halved (Howard et al., 2019), SSD (Liu et al., 2016) with separable
heads (Sandler et al., 2018). It has the 3 440 060 parameters that torchvision publishes for it. The network ends with
the scores of the classes and the offsets of 3234 boxes. Duplicate boxes are not removed: among random scores, that
would be more work than among those of a trained network.
"""

from __future__ import annotations

from typing import Any

from fastgreen.experiment.models_torch import torch_module

__all__ = ["ssdlite320"]

_ANCHORS = 6  # boxes at each place
# kernel, expansion, output, squeeze (0: without), hard swish, stride
_BLOCKS = (
    (3, 16, 16, 0, False, 1),
    (3, 64, 24, 0, False, 2),
    (3, 72, 24, 0, False, 1),
    (5, 72, 40, 24, False, 2),
    (5, 120, 40, 32, False, 1),
    (5, 120, 40, 32, False, 1),
    (3, 240, 80, 0, True, 2),
    (3, 200, 80, 0, True, 1),
    (3, 184, 80, 0, True, 1),
    (3, 184, 80, 0, True, 1),
    (3, 480, 112, 120, True, 1),
    (3, 672, 112, 168, True, 1),
    (5, 672, 80, 168, True, 2),
    (5, 480, 80, 120, True, 1),
    (5, 480, 80, 120, True, 1),
)
_SPLIT = 12  # the block whose expansion is the first map of features
_EXTRAS = (512, 256, 256, 128)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int, activation: Any) -> list[Any]:
    nn: Any = torch_module().nn
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
    ]
    return layers if activation is None else [*layers, activation(inplace=True)]


def _squeeze(width: int, narrow: int) -> Any:
    """Squeeze and excitation (Hu et al., 2018)."""
    nn: Any = torch_module().nn

    class Squeeze(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(width, narrow, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(narrow, width, 1),
                nn.Hardsigmoid(inplace=True),
            )

        def forward(self, x: Any) -> Any:
            return x * self.body(x)

    return Squeeze()


def _block(inputs: int, row: tuple[int, int, int, int, bool, int]) -> Any:
    """An inverted residual with a depthwise convolution; its expansion can be computed before."""
    nn: Any = torch_module().nn
    kernel, wide, outputs, narrow, swish, stride = row
    activation = nn.Hardswish if swish else nn.ReLU

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand = nn.Sequential(
                *(_convolution(inputs, wide, 1, 1, 1, activation) if wide != inputs else [nn.Identity()])
            )
            body = _convolution(wide, wide, kernel, stride, wide, activation)
            body += [_squeeze(wide, narrow)] if narrow else []
            self.body = nn.Sequential(*body, *_convolution(wide, outputs, 1, 1, 1, None))
            self.residual = stride == 1 and inputs == outputs

        def forward(self, x: Any, expanded: Any = None) -> Any:
            out = self.body(self.expand(x) if expanded is None else expanded)
            return x + out if self.residual else out

    return Block()


def ssdlite320(classes: int = 91) -> Any:
    """SSDLite320 on MobileNetV3-Large, for images of 320 pixels.

    Parameters
    ----------
    classes : int
        With the background; 91 for COCO.

    Returns
    -------
    torch.nn.Module
        Gives scores (batch, 3234, classes) and offsets (batch, 3234, 4).
    """
    torch: Any = torch_module()
    nn: Any = torch.nn

    def head(width: int, outputs: int) -> Any:
        return nn.Sequential(*_convolution(width, width, 3, 1, width, nn.ReLU6), nn.Conv2d(width, outputs, 1))

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(*_convolution(3, 16, 3, 2, 1, nn.Hardswish))
            widths = [16, *(row[2] for row in _BLOCKS)]
            self.blocks = nn.ModuleList(_block(n, row) for n, row in zip(widths, _BLOCKS, strict=False))
            self.last = nn.Sequential(*_convolution(80, 480, 1, 1, 1, nn.Hardswish))
            maps, extras = [672, 480], []
            for outputs in _EXTRAS:
                narrow = outputs // 2
                layers = _convolution(maps[-1], narrow, 1, 1, 1, nn.ReLU6)
                layers += _convolution(narrow, narrow, 3, 2, narrow, nn.ReLU6)
                extras.append(nn.Sequential(*layers, *_convolution(narrow, outputs, 1, 1, 1, nn.ReLU6)))
                maps.append(outputs)
            self.extras = nn.ModuleList(extras)
            self.scores = nn.ModuleList(head(width, _ANCHORS * classes) for width in maps)
            self.offsets = nn.ModuleList(head(width, _ANCHORS * 4) for width in maps)

        def features(self, x: Any) -> list[Any]:
            x = self.stem(x)
            for block in self.blocks[:_SPLIT]:
                x = block(x)
            maps = [self.blocks[_SPLIT].expand(x)]
            x = self.blocks[_SPLIT](x, maps[0])
            for block in self.blocks[_SPLIT + 1 :]:
                x = block(x)
            maps.append(self.last(x))
            for extra in self.extras:
                maps.append(extra(maps[-1]))
            return maps

        def forward(self, x: Any) -> Any:
            maps = self.features(2 * x - 1)

            def joined(heads: Any, width: int) -> Any:
                parts = (one(each) for one, each in zip(heads, maps, strict=True))
                return torch.cat([part.permute(0, 2, 3, 1).reshape(len(x), -1, width) for part in parts], 1)

            return torch.softmax(joined(self.scores, classes), -1), joined(self.offsets, 4)

    return Detector()
