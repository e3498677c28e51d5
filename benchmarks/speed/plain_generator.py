"""The generator written plainly: one hypernetwork call a tile for weights and for biases. For comparison only.

It takes its parameters from a :class:`~sb3_gogepo.networks.generator.Generator` with ``average_tile_biases=True`` and
computes the same policies.
"""

from __future__ import annotations

from typing import cast

import torch as th

from sb3_gogepo.networks.generator import Generator, TileNetwork
from sb3_gogepo.networks.policy_weights import Layer


def call_tile_network(network: TileNetwork, embedding: th.Tensor, commands: th.Tensor) -> th.Tensor:
    """One tile: (embedding_dim,), (n_commands,) -> (n_commands, n_values), as a plain MLP on [embedding, command]."""
    hidden = th.cat([embedding.expand(len(commands), -1), commands.unsqueeze(1)], dim=1)
    for linear in network.hidden:
        hidden = th.relu(linear(hidden))
    return network.output(hidden)


def generate_layers(generator: Generator, commands: th.Tensor) -> list[Layer]:
    """(n_commands,) scaled commands -> layers, tile by tile."""
    layers = []
    for i, ((n_in, n_out), grid) in enumerate(zip(generator.layout.shapes, generator.grids, strict=True)):
        n_rows, n_columns, height, width = grid
        scale, kind = generator.scale_of(n_in), generator._kind(i)
        weight_network = cast(TileNetwork, generator.weight_networks[kind])
        bias_network = cast(TileNetwork, generator.bias_networks[kind])
        rows, biases = [], []
        for row in range(n_rows):
            tiles, tile_biases = [], []
            for column in range(n_columns):
                embedding = generator.embeddings[i][row * n_columns + column]
                tiles.append(call_tile_network(weight_network, embedding, commands).view(-1, height, width))
                tile_biases.append(call_tile_network(bias_network, embedding, commands))
            rows.append(th.cat(tiles, dim=2))
            biases.append(th.stack(tile_biases).mean(dim=0))
        weight, bias = th.cat(rows, dim=1), th.cat(biases, dim=1)
        layers.append(Layer(weight=scale * weight[:, :n_out, :n_in], bias=scale * bias[:, :n_out]))
    return layers
