import math

import pytest
import torch as th
from torch import nn

from sb3_gogepo.networks.generator import Generator, TileNetwork
from sb3_gogepo.networks.policy_weights import WeightLayout


def plain_mlp(network, inputs):
    """What a TileNetwork should compute, as an MLP on [embedding, command]."""
    hidden = inputs
    for linear in network.hidden:
        hidden = th.relu(hidden @ linear.weight.T + linear.bias)
    return hidden @ network.output.weight.T + network.output.bias


def generate_by_hand(generator, command):
    """Tile by tile, for one command: a list of (weight, bias)."""
    layers = []
    for i, (n_in, n_out) in enumerate(generator.layout.shapes):
        last = i == len(generator.layout.shapes) - 1
        kind = "output" if last else "input" if i == 0 else "hidden"
        height = n_out if last else generator.tile_size
        width = n_in if i == 0 else generator.tile_size
        n_rows, n_columns = math.ceil(n_out / height), math.ceil(n_in / width)
        scale = generator.output_scale / math.sqrt(n_in)
        weight, bias = th.zeros(n_rows * height, n_columns * width), th.zeros(n_rows * height)
        for row in range(n_rows):
            slices = []
            for column in range(n_columns):
                embedding = generator.embeddings[i][row * n_columns + column]
                inputs = th.cat([embedding, th.tensor([command])])
                tile = plain_mlp(generator.weight_networks[kind], inputs).reshape(height, width)
                weight[row * height : (row + 1) * height, column * width : (column + 1) * width] = scale * tile
                slices.append(plain_mlp(generator.bias_networks[kind], inputs))
            if not generator.average_tile_biases:
                inputs = th.cat([generator.bias_embeddings[i][row], th.tensor([command])])
                slices = [plain_mlp(generator.bias_networks[kind], inputs)]
            bias[row * height : (row + 1) * height] = scale * sum(slices) / len(slices)
        layers.append((weight[:n_out, :n_in], bias[:n_out]))
    return layers


@pytest.mark.parametrize("average_tile_biases", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [(3, 8, 8, 2), (3, 5, 2), (6, 9, 7, 5, 3), (3, 2), (1, 1), (3, 4, 4, 4, 9)],
    ids=["divisible", "one hidden layer", "not divisible", "linear", "smallest", "wide output"],
)
@th.no_grad()
def test_assembly_equals_a_loop_over_tiles(sizes, average_tile_biases):
    layout = WeightLayout(sizes)
    generator = Generator(
        layout, tile_size=4, hidden_sizes=(7, 6), embedding_dim=3, output_scale=1.5, average_tile_biases=average_tile_biases
    )
    commands = th.tensor([-1.0, 0.0, 2.5])
    layers = generator.generate_layers(commands)
    for k, command in enumerate(commands.tolist()):
        for layer, (weight, bias) in zip(layers, generate_by_hand(generator, command), strict=True):
            th.testing.assert_close(layer.weight[k], weight)
            th.testing.assert_close(layer.bias[k], bias)
    assert th.equal(generator(commands), layout.join(layers))


@pytest.mark.parametrize("hidden_sizes", [(6,), (6, 5), (4, 4, 4)])
@th.no_grad()
def test_tile_network_equals_an_mlp_on_embedding_and_command(hidden_sizes):
    network = TileNetwork(embedding_dim=3, hidden_sizes=hidden_sizes, n_values=4)
    embeddings, commands = th.randn(5, 3), th.randn(2)
    inputs = th.cat([embeddings.expand(2, 5, 3), commands.reshape(2, 1, 1).expand(2, 5, 1)], dim=2)
    th.testing.assert_close(network(embeddings, commands), plain_mlp(network, inputs))


@th.no_grad()
def test_averaging_before_the_last_layer_equals_averaging_after_it():
    network = TileNetwork(embedding_dim=3, hidden_sizes=(6, 5), n_values=4)
    embeddings, commands = th.randn(6, 3), th.randn(2)
    expected = network(embeddings, commands).reshape(2, 2, 3, 4).mean(dim=2)
    th.testing.assert_close(network(embeddings, commands, average_tiles=3), expected)


def test_gradients_of_the_split_first_layer_equal_a_plain_mlps():
    network = TileNetwork(embedding_dim=3, hidden_sizes=(6,), n_values=4)
    embeddings, commands = th.randn(5, 3), th.randn(2)
    inputs = th.cat([embeddings.expand(2, 5, 3), commands.reshape(2, 1, 1).expand(2, 5, 1)], dim=2)
    gradients = []
    for outputs in (network(embeddings, commands), plain_mlp(network, inputs)):
        network.zero_grad()
        outputs.square().sum().backward()
        gradients.append(nn.utils.parameters_to_vector([p.grad for p in network.parameters()]))
    th.testing.assert_close(gradients[0], gradients[1])


def test_output_scale_is_a_factor():
    layout = WeightLayout((3, 5, 2))
    policy_weights = []
    for output_scale in (1.0, 3.0):
        th.manual_seed(0)
        policy_weights.append(Generator(layout, tile_size=2, hidden_sizes=(4,), output_scale=output_scale)(th.ones(1)))
    th.testing.assert_close(policy_weights[1], 3 * policy_weights[0])


@pytest.mark.parametrize("average_tile_biases", [False, True])
def test_gradient_reaches_every_parameter(average_tile_biases):
    generator = Generator(WeightLayout((3, 4, 4, 2)), tile_size=2, hidden_sizes=(32,), average_tile_biases=average_tile_biases)
    generator(th.tensor([0.5, -0.5])).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def make_paper_generator(n_obs, n_actions):
    return Generator(
        WeightLayout((n_obs, 256, 256, n_actions)),
        tile_size=16,
        hidden_sizes=(256, 256),
        embedding_dim=8,
        output_scale=2.0,
        average_tile_biases=True,
    )


@pytest.mark.parametrize(
    ("n_obs", "n_actions", "n_parameters"),
    [(8, 2, 528_066), (11, 3, 544_771), (4, 1, 507_249), (2, 1, 499_025)],
    ids=["Swimmer", "Hopper", "InvertedPendulum", "MountainCarContinuous"],
)
def test_parameter_count_of_the_paper(n_obs, n_actions, n_parameters):
    assert sum(p.numel() for p in make_paper_generator(n_obs, n_actions).parameters()) == n_parameters


@pytest.mark.parametrize(
    ("n_obs", "n_actions", "first_std"),
    [(8, 2, 0.068), (11, 3, 0.063), (2, 1, 0.140)],
    ids=["Swimmer", "Hopper", "MountainCar"],
)
@th.no_grad()
def test_initial_weights_are_as_small_as_the_papers(n_obs, n_actions, first_std):
    """Standard deviations measured on the original code, mean over five seeds."""
    stds = []
    for seed in range(5):
        th.manual_seed(seed)
        layers = make_paper_generator(n_obs, n_actions).generate_layers(th.tensor([0.0]))
        stds.append([layer.weight.std() for layer in layers])
    mean_stds = th.tensor(stds).mean(dim=0)
    th.testing.assert_close(mean_stds, th.tensor([first_std, 0.0127, 0.013]), rtol=0.25, atol=0)


def test_weight_bound():
    """Small weights hardly change, none exceeds the bound in units of 1 / sqrt(n_in)."""
    layout = WeightLayout((3, 4, 2))
    generators = []
    for weight_bound in (None, 0.5):
        th.manual_seed(0)
        generators.append(Generator(layout, tile_size=2, hidden_sizes=(4,), output_scale=2.0, weight_bound=weight_bound))
    commands = th.tensor([0.0, 1e4])
    free, bounded = (generator.generate_layers(commands) for generator in generators)
    for (n_in, _), before, after in zip(layout.shapes, free, bounded, strict=True):
        largest = 0.5 / n_in**0.5
        for part in ("weight", "bias"):
            x, y = getattr(before, part), getattr(after, part)
            th.testing.assert_close(y, largest * th.tanh(x / largest))
            assert y.abs().max() <= largest
    assert max(layer.weight.abs().max() for layer in free) > 100
