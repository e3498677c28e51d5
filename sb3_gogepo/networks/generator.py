"""The generator: a hypernetwork from a scaled command to all weights of an MLP policy.

Each weight matrix is cut into tiles (Ha et al. 2017, "HyperNetworks"; Faccio et al. 2023, section 4.2). A tile has a
learned embedding; a small MLP maps (embedding, command) to the tile's values. Sizes that are no multiple of the tile
size are covered by one more tile and cropped, so any ``net_arch`` works.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch as th
from torch import nn

from sb3_gogepo.networks.policy_weights import Layer, WeightLayout


class TileNetwork(nn.Module):
    """MLP (embedding, command) -> values of one tile, for all tiles and all commands at once.

    The first layer sees ``[embedding, command]``. Its embedding part does not depend on the command, so it is computed
    once for all commands; the command's part is a rank-one term. The result is the same, without (n_commands * n_tiles)
    inputs.

    :param embedding_dim: size of a tile's embedding.
    :param hidden_sizes: units of each hidden layer.
    :param n_values: number of values in a tile.
    """

    def __init__(self, embedding_dim: int, hidden_sizes: Sequence[int], n_values: int) -> None:
        super().__init__()
        sizes = [embedding_dim + 1, *hidden_sizes]
        self.hidden = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], n_values)

    def forward(self, embeddings: th.Tensor, commands: th.Tensor, average_tiles: int = 1) -> th.Tensor:
        """(n_tiles, embedding_dim), (n_commands,) -> (n_commands, n_tiles / average_tiles, n_values)

        :param embeddings: (n_tiles, embedding_dim) embeddings of the tiles.
        :param commands: (n_commands,) scaled commands.
        :param average_tiles: number of neighboring tiles whose values are averaged (1: none). The average is taken before
            the last linear layer, which commutes with it.
        """
        first, *others = cast(Iterable[nn.Linear], self.hidden)
        from_embedding = nn.functional.linear(embeddings, first.weight[:, :-1], first.bias)  # (n_tiles, n_hidden)
        from_command = th.outer(commands, first.weight[:, -1])  # (n_commands, n_hidden)
        hidden = th.relu(from_embedding + from_command.unsqueeze(1))
        for linear in others:
            hidden = th.relu(linear(hidden))
        if average_tiles > 1:
            hidden = hidden.unflatten(1, (-1, average_tiles)).mean(dim=2)
        return self.output(hidden)


class Generator(nn.Module):
    """Scaled commands -> flat policy weights.

    Three tile networks for weights and three for biases: input layer, all hidden matrices, output layer. A tile covers
    ``tile_size`` units of a hidden layer, and a whole observation or action vector at the two ends. Values are
    multiplied by ``output_scale / sqrt(n_in)`` of their layer.

    :param layout: layout of the generated weights.
    :param tile_size: number of units of a hidden layer that a tile covers (the original code: 16).
    :param hidden_sizes: hidden layers of each tile network (the original code: 256, 256).
    :param embedding_dim: size of a tile's embedding, which is drawn from N(0, 1) and trained.
    :param output_scale: generated values are multiplied by ``output_scale / sqrt(n_in)``, n_in being the inputs of the
        layer (the original code: ``scale_parameter``, 2); None: they are not scaled.
    :param average_tile_biases: how biases are generated. True, as in the original code: one slice for each weight tile,
        from its embedding, averaged over the tiles of a row. False: one slice a row, from an embedding of its own, at a
        fraction of the cost.
    :param weight_bound: a value x becomes ``weight_bound * tanh(x / weight_bound)`` in units of 1 / sqrt(n_in), so that
        no weight is larger than ``weight_bound / sqrt(n_in)``, n_in being the inputs of the layer; None: no bound.
    """

    def __init__(
        self,
        layout: WeightLayout,
        tile_size: int = 16,
        hidden_sizes: Sequence[int] = (256, 256),
        embedding_dim: int = 8,
        output_scale: float | None = 2.0,
        average_tile_biases: bool = False,
        weight_bound: float | None = None,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.tile_size = tile_size
        self.output_scale = output_scale
        self.average_tile_biases = average_tile_biases
        self.weight_bound = weight_bound
        self.grids: list[tuple[int, int, int, int]] = []  # (n_rows, n_columns, tile height, tile width) of each layer
        self.embeddings = nn.ParameterList()
        self.bias_embeddings = nn.ParameterList()
        self.weight_networks, self.bias_networks = nn.ModuleDict(), nn.ModuleDict()
        last = len(layout.shapes) - 1
        for i, (n_in, n_out) in enumerate(layout.shapes):
            height, width = (n_out if i == last else tile_size), (n_in if i == 0 else tile_size)
            n_rows, n_columns = math.ceil(n_out / height), math.ceil(n_in / width)
            self.grids.append((n_rows, n_columns, height, width))
            self.embeddings.append(nn.Parameter(th.randn(n_rows * n_columns, embedding_dim)))
            if not average_tile_biases:
                self.bias_embeddings.append(nn.Parameter(th.randn(n_rows, embedding_dim)))
            kind = self._kind(i)
            if kind not in self.weight_networks:
                self.weight_networks[kind] = TileNetwork(embedding_dim, hidden_sizes, height * width)
                self.bias_networks[kind] = TileNetwork(embedding_dim, hidden_sizes, height)

    def _kind(self, i: int) -> str:
        """Key of the tile networks that generate layer ``i``."""
        if i == len(self.layout.shapes) - 1:
            return "output"
        return "input" if i == 0 else "hidden"

    def scale_of(self, n_in: int) -> float:
        """Factor of the values of a layer with ``n_in`` inputs."""
        return 1.0 if self.output_scale is None else self.output_scale / math.sqrt(n_in)

    def bound(self, weights: th.Tensor, n_in: int) -> th.Tensor:
        """``weights`` of a layer with ``n_in`` inputs, bounded smoothly to ``weight_bound / sqrt(n_in)``."""
        if self.weight_bound is None:
            return weights
        largest = self.weight_bound / math.sqrt(n_in)
        return largest * th.tanh(weights / largest)

    def generate_layers(self, commands: th.Tensor) -> list[Layer]:
        """(n_commands,) scaled commands -> layers of n_commands policies; differentiable."""
        layers = []
        for i, ((n_in, n_out), (n_rows, n_columns, height, width)) in enumerate(
            zip(self.layout.shapes, self.grids, strict=True)
        ):
            scale = self.scale_of(n_in)
            kind = self._kind(i)
            tiles = self.weight_networks[kind](self.embeddings[i], commands)
            # (n_commands, n_rows * n_columns, height * width) -> (n_commands, n_rows * height, n_columns * width)
            tiles = tiles.unflatten(2, (height, width)).unflatten(1, (n_rows, n_columns))
            weight = tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)
            if self.average_tile_biases:
                bias = self.bias_networks[kind](self.embeddings[i], commands, average_tiles=n_columns).flatten(1)
            else:
                bias = self.bias_networks[kind](self.bias_embeddings[i], commands).flatten(1)
            weight, bias = scale * weight[:, :n_out, :n_in], scale * bias[:, :n_out]
            layers.append(Layer(weight=self.bound(weight, n_in), bias=self.bound(bias, n_in)))
        return layers

    def forward(self, commands: th.Tensor) -> th.Tensor:
        """(n_commands,) scaled commands -> (n_commands, n_weights) policy weights; differentiable."""
        return self.layout.join(self.generate_layers(commands))
