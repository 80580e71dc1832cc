"""Networks and data of the sparse studies. The counts are those of weights without biases, as the papers give them."""

from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

VGG_D = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")


def lenet5_caffe(classes: int = 10) -> nn.Module:
    """LeNet5 as Caffe defines it: 430 500 weights, for images of 1 x 28 x 28 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def vgg_d(classes: int = 10) -> nn.Module:
    """VGG-D (Simonyan and Zisserman, 2014) with batch normalisation: 15 239 872 weights, for 3 x 32 x 32 pixels."""
    layers: list[nn.Module] = []
    channels, quick = 3, 0.5  # momentum of the statistics of a batch: an epoch here has few batches
    for width in VGG_D:
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width, momentum=quick),
                nn.ReLU(),
            ]
            channels = width
    layers += [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(512, 512, bias=False), nn.BatchNorm1d(512, momentum=quick), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, classes))


def dense_network(*widths: int) -> nn.Module:
    """Linear layers of these widths with ReLU between them; 784, 300, 100, 10 is LeNet-300-100."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


ARCHITECTURES = {"LeNet5-Caffe": (lenet5_caffe, 1, 28), "VGG-D": (vgg_d, 3, 32)}  # network, channels, pixels


def digits(channels: int, pixels: int, train: int | None = None) -> tuple[torch.Tensor, ...]:
    """scikit-learn's digits, 8 x 8 pixels, enlarged: images and labels to train with, and to test with.

    `train` keeps that many of the 1257 images to train with.
    """
    flat, labels = load_digits(return_X_y=True)
    images = torch.tensor(flat, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = nn.functional.interpolate(images, size=(pixels, pixels), mode="bilinear").repeat(1, channels, 1, 1)
    images = (images - images.mean()) / images.std()
    parts = train_test_split(images.numpy(), labels.astype("int64"), test_size=540, random_state=0, stratify=labels)
    x, x_test, y, y_test = map(torch.from_numpy, parts)
    return x[:train], y[:train], x_test, y_test


def weights(network: nn.Module) -> list[nn.Parameter]:
    """The weights of convolutions and linear layers, which the methods prune; biases and norms stay."""
    return [layer.weight for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]


def batches(count: int, batch: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Places of the images of each batch of an epoch, in random order. The last batch may be smaller, but not of 1."""
    parts = list(torch.randperm(count, generator=generator).split(batch))
    return parts if len(parts) < 2 or len(parts[-1]) > 1 else parts[:-1]


@torch.no_grad()
def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Fraction of right answers."""
    network.eval()
    right = sum(
        int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(128), labels.split(128), strict=True)
    )
    network.train()
    return right / len(labels)
