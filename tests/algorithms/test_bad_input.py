"""Each bad input, to every algorithm: one ValueError that names the argument and what was received.

What one algorithm alone takes is tried in its own folder.
"""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.sac.policies import SACPolicy

from sb3_gogepo import UDRLPG, GoGePo
from tests.toy_envs import ConstantObs, Seeded, Spaces

GENERATORS = [GoGePo, UDRLPG]
BOX = spaces.Box(-1, 1, (2,), np.float32)


ARGUMENTS = [
    (dict(learning_rate=-1e-3), "learning_rate must be a finite number >= 0, got -0.001"),
    (dict(learning_rate=np.nan), "learning_rate must be a finite number >= 0, got nan"),
    (dict(learning_rate="lin_1e-3"), "learning_rate must be a finite number >= 0, got 'lin_1e-3'"),
    (dict(buffer_size=0), "buffer_size must be an integer >= 1, got 0"),
    (dict(buffer_size=1e4), "buffer_size must be an integer >= 1, got 10000.0"),
    (dict(batch_size=0), "batch_size must be an integer >= 1, got 0"),
    (dict(batch_size=-16), "batch_size must be an integer >= 1, got -16"),
    (dict(batch_size=2.5), "batch_size must be an integer >= 1, got 2.5"),
    (dict(batch_size=True), "batch_size must be an integer >= 1, got True"),
    (dict(train_freq=0), "train_freq must be an integer >= 1, got 0"),
    (dict(train_freq=(0, "episode")), "train_freq must be an integer >= 1, got 0"),
    (dict(train_freq=(1, "epoch")), r"train_freq must be an integer >= 1 or a tuple .*got \(1, 'epoch'\)"),
    (dict(n_candidates=0), "n_candidates must be an integer >= 1, got 0"),
    (dict(n_candidates=1.5), "n_candidates must be an integer >= 1, got 1.5"),
    (dict(alive_bonus_offset=np.nan), "alive_bonus_offset must be a finite number, got nan"),
    (dict(alive_bonus_offset="1"), "alive_bonus_offset must be a finite number, got '1'"),
    (dict(normalize_observations="no"), "normalize_observations must be True or False, got 'no'"),
    (dict(stats_window_size=0), "stats_window_size must be an integer >= 1, got 0"),
    (dict(tensorboard_log=3), "tensorboard_log must be a path or None, got 3"),
    (dict(policy_kwargs=[64]), r"policy_kwargs must be a dict or None, got \[64\]"),
    (dict(verbose="yes"), "verbose must be an integer >= 0, got 'yes'"),
    (dict(seed="one"), "seed must be an integer >= 0, got 'one'"),
    (dict(seed=-1), "seed must be an integer >= 0, got -1"),
]

GENERATOR_ARGUMENTS = [
    (dict(weight_noise_std=-0.1), "weight_noise_std must be a finite number >= 0, got -0.1"),
    (dict(weight_noise_std=(0.5, 1)), r"weight_noise_std must be a finite number >= 0, got \(0.5, 1\)"),
    (dict(weight_noise_std="1"), "weight_noise_std must be a finite number >= 0, got '1'"),
    (dict(final_weight_noise_std=-1.0), "final_weight_noise_std must be a finite number >= 0, got -1.0"),
    (dict(weight_noise_steps=0), "weight_noise_steps must be an integer >= 1, got 0"),
    (dict(weight_noise_steps=2.5), "weight_noise_steps must be an integer >= 1, got 2.5"),
    (dict(weight_noise_std=np.nan), "weight_noise_std must be a finite number >= 0, got nan"),
    (dict(weight_noise_scaling="fan_out"), "weight_noise_scaling must be one of 'fan_in', 'none', got 'fan_out'"),
    (dict(weight_noise_scaling=None), "weight_noise_scaling must be one of 'fan_in', 'none', got None"),
    (dict(probe_after=1.5), r"probe_after must be a number in \[0, 1\], got 1.5"),
    (dict(first_command=np.nan), "first_command must be a finite number, got nan"),
    (dict(command_increment=np.inf), "command_increment must be a finite number, got inf"),
    (dict(command_increment_std="1"), "command_increment_std must be a finite number, got '1'"),
    (dict(return_range=(1, 1)), r"return_range must be two finite numbers .*got \(1, 1\)"),
    (dict(return_range=(0, np.inf)), r"return_range must be two finite numbers .*got \(0, inf\)"),
    (dict(fold_normalization="no"), "fold_normalization must be True or False, got 'no'"),
    (dict(return_range=5), "return_range must be two finite numbers .*got 5"),
]

POLICY_ARGUMENTS = [
    (dict(net_arch=[64, 0]), r"net_arch must be a .*list of integers >= 1, got \[64, 0\]"),
    (dict(net_arch=64), "net_arch must be a .*list of integers >= 1, got 64"),
    (dict(net_arch=dict(pi=[64])), "net_arch must be a .*list of integers >= 1, got {'pi'"),
    (dict(activation_fn="tanh"), "activation_fn must be a torch.nn.Module class .*got 'tanh'"),
    (dict(activation_fn=th.tanh), "activation_fn must be a torch.nn.Module class .*got <built-in"),
    (dict(activation_fn=th.nn.Tanh()), r"activation_fn must be a torch.nn.Module class .*got Tanh\(\)"),
    (dict(activation_fn=th.nn.PReLU), "activation_fn must be a torch.nn.Module class without parameters, .* with weight"),
    (dict(activation_fn=th.nn.Linear), "activation_fn must be a torch.nn.Module class that needs no arguments, got"),
]

GENERATOR_POLICY_ARGUMENTS = [
    (dict(generator_net_arch=[1.5]), r"generator_net_arch must be a non-empty list of integers >= 1, got \[1.5\]"),
    (dict(generator_net_arch=[]), r"generator_net_arch must be .*, got \[\]"),
    (dict(tile_size=0), "tile_size must be an integer >= 1, got 0"),
    (dict(embedding_dim=0), "embedding_dim must be an integer >= 1, got 0"),
    (dict(output_scale=0), "output_scale must be a finite number > 0, got 0"),
    (dict(output_scale=np.nan), "output_scale must be a finite number > 0, got nan"),
    (dict(weight_bound=0), "weight_bound must be a finite number > 0, got 0"),
]

for_generators = pytest.mark.parametrize("algorithm", GENERATORS, ids=lambda algorithm: algorithm.__name__)


def cases(arguments_and_messages):
    """Parametrize by (arguments, message), each case named by its message."""
    return pytest.mark.parametrize(
        ("arguments", "message"), arguments_and_messages, ids=[message for _, message in arguments_and_messages]
    )


@cases(ARGUMENTS)
def test_constructor_arguments(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@for_generators
@cases(GENERATOR_ARGUMENTS)
def test_constructor_arguments_of_generators(arguments, message, make_model):
    with pytest.raises(ValueError, match=message):
        make_model(**arguments)


@cases(POLICY_ARGUMENTS)
def test_policy_arguments(arguments, message, make_model, tiny):
    with pytest.raises(ValueError, match=message):
        make_model(policy_kwargs={**tiny["policy_kwargs"], **arguments})


@for_generators
@cases(GENERATOR_POLICY_ARGUMENTS)
def test_policy_arguments_of_generators(arguments, message, make_model, tiny):
    with pytest.raises(ValueError, match=message):
        make_model(policy_kwargs={**tiny["policy_kwargs"], **arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        dict(learning_rate=0.0),
        dict(buffer_size=1, batch_size=1),
        dict(n_candidates=1, train_freq=1),
        dict(batch_size=np.int64(3), buffer_size=np.int64(5)),
        dict(stats_window_size=1),
    ],
    ids=str,
)
def test_the_bounds_themselves_are_fine(arguments, make_model):
    make_model(**arguments).learn(15)


# ---------------------------------------------------------------- policy and env


@pytest.mark.parametrize("args", [("MlpPolcy",), ("Hoper-v3",), ("CnnPolicy",), (None,), (3,)])
def test_policy_that_is_neither_alias_nor_env(args, algorithm):
    with pytest.raises(ValueError, match=f"(policy|env) must be .*got {args[0]!r}|environment is of type {type(args[0])}"):
        algorithm(*args)


def test_env_id_with_a_slip(algorithm):
    with pytest.raises(ValueError, match=r"a registered env id, got 'Hoper-v3'\. Environment .* Did you mean: `Hopper`"):
        algorithm("Hoper-v3")


@pytest.mark.parametrize("policy", ["CnnPolicy", "Hopper-v3", 3, None, th.nn.Tanh, SACPolicy, Seeded()])
def test_policy_beside_an_env(policy, algorithm):
    with pytest.raises(ValueError, match=r"policy must be .* derived from \w+Policy when env is given, got"):
        algorithm(policy, Seeded())


def test_unknown_env_id(algorithm):
    with pytest.raises(ValueError, match="env must be a Gymnasium env or a registered id, got 'Hoper-v3'"):
        algorithm("MlpPolicy", "Hoper-v3")


@pytest.mark.parametrize("env", [3, [Seeded()], th.nn.Tanh], ids=["number", "list", "module"])
def test_env_that_is_no_env(env, algorithm):
    with pytest.raises(ValueError, match=r"environment is of type .*, not a Gymnasium environment"):  # SB3's own words
        algorithm("MlpPolicy", env)


def test_alias_without_env(algorithm):
    with pytest.raises(ValueError, match="env"):
        algorithm("MlpPolicy").learn(10)


@pytest.mark.parametrize(
    ("observation_space", "action_space", "message"),
    [
        (spaces.Discrete(4), BOX, "flat Box observation spaces, got Discrete.*FlattenObservation"),
        (spaces.Dict(a=BOX), BOX, "flat Box observation spaces, got Dict.*FlattenObservation"),
        (spaces.Tuple([BOX, BOX]), BOX, "flat Box observation spaces, got Tuple.*FlattenObservation"),
        (
            spaces.Box(0, 255, (40, 40, 3), np.uint8),
            BOX,
            r"flat Box observation spaces, got Box\(0, 255, .*FlattenObservation",
        ),
        (spaces.Box(-1, 1, (3, 3)), BOX, "flat Box observation spaces, got Box.*FlattenObservation"),
        (BOX, spaces.MultiDiscrete([2, 2]), "Box and Discrete action spaces, got MultiDiscrete.*ActionWrapper"),
        (BOX, spaces.MultiBinary(2), "Box and Discrete action spaces, got MultiBinary.*ActionWrapper"),
        (BOX, spaces.Dict(a=BOX), "Box and Discrete action spaces, got Dict.*ActionWrapper"),
        (BOX, spaces.Box(-1, np.inf, (2,)), "needs finite action bounds, got Box.*ActionWrapper"),
        (BOX, spaces.Box(0, 3, (2,), np.int32), "Box action spaces of floats, got Box.*ActionWrapper"),
    ],
    ids=str,
)
def test_unsupported_spaces(observation_space, action_space, message, make_model, algorithm):
    with pytest.raises(ValueError, match=f"{algorithm.__name__} .*{message}"):
        make_model(Spaces(observation_space, action_space))


# ---------------------------------------------------------------- methods

NO_COMMANDS = [np.nan, np.inf, -np.inf, "high", [1.0, 2.0]]


@for_generators
@pytest.mark.parametrize("command", [*NO_COMMANDS, None], ids=str)
def test_generate_policy_needs_a_finite_command(command, make_model):
    with pytest.raises(ValueError, match=r"command must be a finite number \(a return\), got"):
        make_model().generate_policy(command)


@pytest.mark.parametrize("command", NO_COMMANDS, ids=str)
def test_command_must_be_finite(command, make_model):
    model = make_model().learn(5)
    before = model.command
    with pytest.raises(ValueError, match=r"command must be a finite number \(a return\), got"):
        model.command = command
    assert model.command == before
    model.learn(30, reset_num_timesteps=False)
    followed = model.command
    assert followed != before
    model.command = None  # follow the best returns, which it still does
    assert model.command == followed


@pytest.mark.parametrize("commands", [[1.0, np.nan], np.nan, [np.inf], ["high"], [None]], ids=str)
def test_evaluate_commands_needs_finite_commands(commands, make_model):
    with pytest.raises(ValueError, match=r"command must be a finite number \(a return\), got"):
        make_model().evaluate_commands(commands)


def test_evaluate_commands_bounds(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="n_eval_episodes must be an integer >= 1, got 0"):
        model.evaluate_commands([1.0], n_eval_episodes=0)
    with pytest.raises(ValueError, match=r"commands must .*got \[\]"):
        model.evaluate_commands([])
    with pytest.raises(ValueError, match="spaces do not match"):
        model.evaluate_commands([1.0], env=ConstantObs())


@pytest.mark.parametrize("total_timesteps", [0, -5, np.nan, np.inf, "1e6", None])
def test_total_timesteps(total_timesteps, make_model):
    model = make_model()
    with pytest.raises(ValueError, match=f"total_timesteps must be a finite number >= 1, got {total_timesteps!r}"):
        model.learn(total_timesteps)
    assert model.num_timesteps == 0


@pytest.mark.parametrize("log_interval", [0, -1, 0.5])
def test_log_interval(log_interval, make_model):
    with pytest.raises(ValueError, match=f"log_interval must be an integer >= 1, got {log_interval}"):
        make_model().learn(10, log_interval=log_interval)


def test_a_monitor_that_forbids_early_resets(make_model):
    with pytest.raises(ValueError, match=r"env must be in no Monitor\(allow_early_resets=False\)"):
        make_model(Monitor(Seeded(), allow_early_resets=False)).learn(10)


def test_a_model_refused_by_its_arguments_opens_no_env(algorithm):
    class Counted(Seeded):
        def reset(self, **kwargs):
            raise AssertionError("the env must not be touched")

    with pytest.raises(ValueError, match="batch_size"):
        algorithm("MlpPolicy", Counted(), batch_size=0)
