"""EfficientNet-Lite0, trained on ImageNet: an image encoder that has never seen a radiograph or a report.

Layout of the file, by the names of the package efficientnet-lite-pytorch: `_conv_stem`, `_bn0`, sixteen `_blocks` of an
expansion, a depthwise and a projecting convolution with a BatchNorm each, `_conv_head`, `_bn1`, and the classifier
`_fc`, which is not used. Lite: ReLU6, no squeeze-and-excitation. Padding is TensorFlow's SAME, the odd pixel last.
Source: Tan and Le 2019 (arXiv:1905.11946), and the authors' EfficientNet-lite for the values, (grey - 127) / 128.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

CLASSES, WIDTH = 1000, 1280
SIDE, CROP = 256, 224  # the authors cut 224 of 224 + 32
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first, expansion and channels of each stage."""


class Same(nn.Conv2d):
    """A convolution without bias whose output has ceil(side / stride) pixels a side."""

    def __init__(self, into: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, groups=groups, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        pads = []
        for side in (states.shape[-1], states.shape[-2]):
            pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(nn.functional.pad(states, pads))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """An inverted bottleneck."""

    def __init__(self, into: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = into * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv, self._bn0 = Same(into, inner, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = Same(inner, inner, kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = Same(inner, out, 1), _norm(out)
        self.adds = stride == 1 and into == out

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        inner = states
        if self.expands:
            inner = nn.functional.relu6(self._bn0(self._expand_conv(inner)))
        inner = nn.functional.relu6(self._bn1(self._depthwise_conv(inner)))
        inner = self._bn2(self._project_conv(inner))
        return inner + states if self.adds else inner


class EfficientNetLite0(nn.Module):
    """(n, 3, side, side) -> (n, 1280): the mean over places of the last activations, the classifier's input."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Same(3, 32, 3, 2), _norm(32)
        blocks: list[nn.Module] = []
        into = 32
        for repeats, kernel, stride, expansion, out in STAGES:
            for number in range(repeats):
                blocks.append(_Block(into, out, kernel, stride if number == 0 else 1, expansion))
                into = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Same(into, WIDTH, 1), _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Everything but the classifier."""
        states: Any = nn.functional.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            states = block(states)
        return nn.functional.relu6(self._bn1(self._conv_head(states))).mean((2, 3))
