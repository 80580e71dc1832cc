"""Four networks as plain tables, without PyTorch: AlexNet, VGG11, VGG13, VGG16 at 3 x 224 x 224.

AlexNet is the one-column variant (Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014),
the VGGs are configurations A, B and D of Simonyan and Zisserman (2014), without batch normalisation; both with an
adaptive average pool before the classifier and ReLUs that overwrite their input, as torchvision defines them.
"""

from __future__ import annotations

from fastgreen.estimate.layers import Layer

__all__ = ["NAMES", "zoo"]

# A number is a 3 x 3 convolution with that many outputs and its ReLU; M halves the image.
_VGG = {
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg13": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
}
# kernel, outputs, stride, padding, then whether a 3 x 3 pool of stride 2 follows
_ALEXNET = (
    (11, 64, 4, 2, True),
    (5, 192, 1, 2, True),
    (3, 384, 1, 1, False),
    (3, 256, 1, 1, False),
    (3, 256, 1, 1, True),
)

NAMES = ("alexnet", *_VGG)


def zoo(name: str, image_size: int = 224, in_channels: int = 3, classes: int = 1000) -> list[Layer]:
    """Layers of a built-in network, in order.

    Parameters
    ----------
    name : str
        ``alexnet``, ``vgg11``, ``vgg13`` or ``vgg16``.
    image_size, in_channels, classes : int
        Height and width of the image in pixels, its channels, the outputs of the last layer.

    Returns
    -------
    list of Layer

    Raises
    ------
    ValueError
        If `name` is not one of these.

    References
    ----------
    Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014; Simonyan, Zisserman, "Very deep
    convolutional networks for large-scale image recognition", 2014.

    Examples
    --------
    >>> [layer.kind for layer in zoo("alexnet")][:3]
    ['Conv2d', 'ReLU', 'MaxPool2d']
    """
    key = name.lower()
    if key not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, not {name!r}")
    stack = _Stack(image_size, in_channels)
    if key == "alexnet":
        for kernel, outputs, stride, padding, pooled in _ALEXNET:
            stack.conv(kernel, outputs, stride, padding)
            if pooled:
                stack.pool(3, 2)
        stack.classifier(6, classes, dropout_first=True)
    else:
        for step in _VGG[key]:
            if isinstance(step, int):
                stack.conv(3, step, 1, 1)
            else:
                stack.pool(2, 2)
        stack.classifier(7, classes, dropout_first=False)
    return stack.layers


class _Stack:
    """A network under construction: its layers so far, and the size of the last one's output."""

    def __init__(self, image: int, channels: int) -> None:
        self.layers: list[Layer] = []
        self.image, self.channels = image, channels

    def add(self, kind: str, **sizes: int) -> None:
        self.layers.append(Layer(kind, sizes, name=f"{len(self.layers) + 1}.{kind}"))

    def conv(self, kernel: int, outputs: int, stride: int, padding: int) -> None:
        self.add("Conv2d", image_size=self.image, kernel_size=kernel, in_channels=self.channels, out_channels=outputs,
                 stride=stride, padding=padding)  # fmt: skip
        self.image = (self.image + 2 * padding - kernel) // stride + 1
        self.channels = outputs
        self.relu(outputs * self.image**2)

    def pool(self, kernel: int, stride: int) -> None:
        self.add("MaxPool2d", image_size=self.image, kernel_size=kernel, in_channels=self.channels, stride=stride)
        self.image = (self.image - kernel) // stride + 1

    def relu(self, elements: int) -> None:
        self.add("ReLU", input_size=elements, inplace=1)

    def classifier(self, pooled: int, classes: int, dropout_first: bool) -> None:
        self.add("AdaptiveAvgPool2d", image_size=self.image, output_size=pooled, in_channels=self.channels)
        width = self.channels * pooled**2
        for _ in range(2):
            if dropout_first:
                self.add("Dropout")
            self.add("Linear", input_size=width, output_size=4096)
            self.relu(4096)
            if not dropout_first:
                self.add("Dropout")
            width = 4096
        self.add("Linear", input_size=width, output_size=classes)
