"""The discriminator: a convolutional network that distinguishes real texts from fakes.

The network is Kim's CNN (2014, https://arxiv.org/abs/1408.5882) followed by a highway layer
(Srivastava et al. 2015, https://arxiv.org/abs/1505.00387), as in SeqGAN (Yu et al. 2017,
https://arxiv.org/abs/1609.05473). Its inputs are token ids.

Random numbers depend only on a seed and the number of steps, so the state has no generator, and
global generators are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init

Ids = tuple[int, ...]
_Layer = TypeVar("_Layer", bound=nn.Module)

# Streams of random numbers, distinguished by the second word of their seed.
_WEIGHTS, _DROPOUT = range(2)

# Texts in a forward pass.
_CHUNK = 256

_HIGHWAY_BIAS = -2.0
"""Highway layers are initially close to the identity (Srivastava et al. 2015)."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a :class:`TextCNN`.

    Attributes:
        vocabulary: Number of ids, including padding, which is the last one.
        embedding: Size of a token embedding.
        widths: Widths of the filters, in tokens.
        filters: Number of filters of each width.
        highway: Number of highway layers.
        separator: The id after the prompt; None if prompts are not read.
    """

    vocabulary: int
    embedding: int
    widths: tuple[int, ...]
    filters: int
    highway: int
    separator: int | None = None


class TextCNN(nn.Module):
    """A network that computes the logit of a text being real.

    Args:
        shape: The sizes.
        generator: Generator of the initial weights.
    """

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.shape = shape
        features = shape.filters * len(shape.widths)
        size = shape.embedding
        # torch would initialize from the global generator.
        self.embedding = _uninitialised(nn.Embedding, shape.vocabulary, size)
        self.convolutions = nn.ModuleList(
            _uninitialised(nn.Conv1d, size, shape.filters, width) for width in shape.widths
        )
        self.highway = nn.ModuleList(
            _uninitialised(nn.Linear, features, 2 * features) for _ in range(shape.highway)
        )
        self.output = _uninitialised(nn.Linear, features, 1)
        # Pooling discards positions, so words of the prompt get other embeddings: otherwise they
        # would hide the same words of the text.
        self.prompt = nn.Parameter(torch.empty(size)) if shape.separator is not None else None
        self._initialize(generator)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        self.embedding.weight.normal_(generator=generator)
        self.embedding.weight[-1] = 0.0
        if self.prompt is not None:
            self.prompt.normal_(generator=generator)
        for layer in (*self.convolutions, *self.highway, self.output):
            weight, bias = layer.weight, layer.bias
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            bound = weight[0].numel() ** -0.5
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        for layer in self.highway:
            assert isinstance(layer.bias, Tensor)
            layer.bias[len(layer.bias) // 2 :] = _HIGHWAY_BIAS

    def features(self, tokens: Tensor) -> Tensor:
        """Return the maximum response of each filter, ``[B, filters * len(widths)]``.

        Args:
            tokens: ``[B, W]`` ids, padded on the right with the last id. Only windows within the
                text count; if the text is shorter than the window, the first one.
        """
        padding = self.shape.vocabulary - 1
        missing = max(self.shape.widths) - tokens.shape[1]
        if missing > 0:
            tokens = functional.pad(tokens, (0, missing), value=padding)
        lengths = (tokens != padding).sum(1)
        vectors = functional.embedding(tokens, self.embedding.weight, padding_idx=padding)
        if self.prompt is not None:
            marks = tokens.eq(self.shape.separator or 0).cumsum(1)
            vectors = vectors + self.prompt * (marks == 0)[..., None]
        vectors = vectors.transpose(1, 2)
        pooled = []
        for width, convolution in zip(self.shape.widths, self.convolutions, strict=True):
            maps = functional.relu(convolution(vectors))
            places = torch.arange(maps.shape[2], device=tokens.device)
            outside = places > (lengths - width).clamp(min=0)[:, None]
            # After the ReLU, 0 is the minimum.
            pooled.append(maps.masked_fill(outside[:, None], 0.0).amax(2))
        return torch.cat(pooled, 1)

    def forward(
        self, tokens: Tensor, dropout: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return logits ``[B]``.

        Args:
            tokens: As for `features`.
            dropout: Dropout rate of the features.
            generator: Generator of the dropout, on the device of the network.
        """
        hidden = self.features(tokens)
        for layer in self.highway:
            new, gate = layer(hidden).chunk(2, 1)
            open_ = torch.sigmoid(gate)
            hidden = open_ * functional.relu(new) + (1 - open_) * hidden
        if dropout:
            draws = torch.rand(hidden.shape, generator=generator, device=hidden.device)
            hidden = hidden * (draws >= dropout) / (1 - dropout)
        logits: Tensor = self.output(hidden)[:, 0]
        return logits


def _uninitialised(layer: type[_Layer], *sizes: int) -> _Layer:
    made: _Layer = skip_init(layer, *sizes)  # type: ignore[no-untyped-call]
    return made


def adversarial_loss(real: Tensor, fake: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the binary cross-entropy in nats, with equal total weight of both kinds.

    Args:
        real: Logits of real texts ``[m]``.
        fake: Logits of fakes ``[n]``.
        smoothing: One-sided label smoothing: the target of real texts is 1 minus this (Salimans et
            al. 2016, https://arxiv.org/abs/1606.03498).
    """
    loss = functional.binary_cross_entropy_with_logits
    reals = loss(real, torch.full_like(real, 1 - smoothing))
    return (reals + loss(fake, torch.zeros_like(fake))) / 2


class Discriminator:
    """A network with its optimizer (AdamW).

    Args:
        shape: The sizes of the network.
        device: The device of the network.
        seed: Seed of the initial weights and of dropout.
        learning_rate: Learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        dropout: Dropout rate of the features in training.
        smoothing: See :func:`adversarial_loss`.

    Attributes:
        network: The network.
        steps: Number of gradient steps so far.
    """

    def __init__(
        self,
        shape: Shape,
        device: torch.device,
        *,
        seed: int,
        learning_rate: float,
        weight_decay: float,
        dropout: float,
        smoothing: float,
    ) -> None:
        self.device = device
        self.steps = 0
        self._seed = seed
        self._dropout = dropout
        self._smoothing = smoothing
        with _float32_mode(device):
            self.network = TextCNN(shape, self._generator("cpu", _WEIGHTS)).to(device)
            self._optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
            )

    def logits(self, texts: Sequence[Ids]) -> NDArray[np.float64]:
        """Return the log-odds ``[N]`` of texts being real, without dropout.

        They do not depend on the order of the texts.
        """
        # Sorting makes results bit-identical for equal sets of texts, and reduces padding.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        found: dict[Ids, float] = {}
        with _float32_mode(self.device), torch.no_grad():
            for first in range(0, len(distinct), _CHUNK):
                chunk = distinct[first : first + _CHUNK]
                values = self.network(self._batch(chunk)).tolist()
                found.update(zip(chunk, values, strict=True))
        return np.array([found[text] for text in texts], np.float64)

    def step(self, reals: Sequence[Ids], fakes: Sequence[Ids]) -> float:
        """Take a gradient step; return the loss before it."""
        with _float32_mode(self.device), torch.enable_grad():
            tokens = self._batch([*reals, *fakes])
            generator = self._generator(self.device, _DROPOUT, self.steps)
            logits = self.network(tokens, self._dropout, generator)
            loss = adversarial_loss(logits[: len(reals)], logits[len(reals) :], self._smoothing)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        self.steps += 1
        return float(loss.detach())

    def state(self) -> dict[str, Tensor]:
        """Return copies of the weights and the moments of the optimizer, on the CPU."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, parameter in enumerate(self.network.parameters()):
            # Empty before the first step.
            for name, value in self._optimizer.state[parameter].items():
                state[f"optimizer.{number}.{name}"] = value
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Restore a `state` of a discriminator with the same shape."""
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            kind, _, name = key.partition(".")
            if kind == "network":
                weights[name] = value
            elif kind == "optimizer":
                number, _, name = name.partition(".")
                moments.setdefault(int(number), {})[name] = value.clone()
        with _float32_mode(self.device):
            self.network.load_state_dict(weights)
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.steps = steps

    def _batch(self, texts: Sequence[Ids]) -> Tensor:
        longest = max(map(len, texts))
        batch = np.full((len(texts), longest), self.network.shape.vocabulary - 1)
        for row, text in enumerate(texts):
            batch[row, : len(text)] = text
        return torch.from_numpy(batch).to(self.device)

    def _generator(self, device: torch.device | str, *key: int) -> torch.Generator:
        """Return a generator on a device, for a stream and optionally a step."""
        words = np.random.SeedSequence([self._seed, *key]).generate_state(1)
        return torch.Generator(device).manual_seed(int(words[0]))


@contextmanager
def _float32_mode(device: torch.device) -> Iterator[None]:
    """Leave the caller's autocast and inference modes."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        yield
