"""Named sets of constructor arguments: ``GoGePo("MlpPolicy", env, **presets.PAPER)``, ``UDRLPG(..., **UDRLPG_PAPER)``."""

from __future__ import annotations

from typing import Any

#: The original's recipe as executed (IDSIA/GoGePo @7905a67, ``gogepo.py`` and ``core_gogepo.py``). ``return_range`` is
#: Swimmer's; for another env, replace it, e.g. ``{**PAPER, "return_range": (-100, 3000)}`` for Hopper.
PAPER: dict[str, Any] = dict(
    learning_rate=2e-6,
    evaluator_learning_rate=5e-3,
    buffer_size=10_000,
    batch_size=16,
    recency=1.1,
    elite_fraction=0.0,
    even_fraction=0.0,
    imitation_coef=0.0,
    train_freq=(1, "episode"),
    # The original's loops are range(1, 5) and range(1, 20): one step fewer than its settings say.
    evaluator_gradient_steps=4,
    generator_gradient_steps=19,
    weight_noise_std=0.1,
    final_weight_noise_std=None,
    weight_noise_steps=None,
    weight_noise_scaling="none",
    probe_fraction=0.0,
    n_warm_up_episodes=0,
    prune_after=None,
    first_command=1.0,
    command_increment=20.0,
    command_increment_std=0.0,
    return_range=(-100.0, 365.0),
    fold_normalization=False,
    n_candidates=1,
    policy_kwargs=dict(
        net_arch=[256, 256],
        tile_size=16,
        generator_net_arch=[256, 256],
        embedding_dim=8,
        output_scale=2.0,
        average_tile_biases=True,
        weight_bound=None,
        n_evaluators=1,
        n_probing_states=200,
        evaluator_net_arch=[256, 256],
        probing_states_init="uniform",
        scale_probing_actions=True,
    ),
)

#: The recipe of UDRLPG's released code as executed (``JacopoD/udrlpg_`` @97eabda, ``config.py``). ``return_range`` and
#: ``first_command`` are for Swimmer.
UDRLPG_PAPER: dict[str, Any] = dict(
    learning_rate=2e-6,
    buffer_size=10_000,
    batch_size=24,
    n_buckets=800,
    bucket_size=2,  # the code's setting is 1, its check lets a second one in
    rank_scale=0.3,
    replace_in_bucket="none",
    train_freq=(1, "episode"),
    gradient_steps=8,
    n_warm_up_episodes=10,
    freeze_statistics_after=None,
    weight_noise_std=0.1,
    final_weight_noise_std=None,
    weight_noise_steps=None,
    weight_noise_scaling="none",
    probe_fraction=0.0,
    first_command=365.0,  # the highest return of the range
    command_increment=0.0,
    command_increment_std=0.0,
    return_range=(-100.0, 365.0),
    fold_normalization=False,
    n_candidates=1,
    policy_kwargs=dict(
        net_arch=[256, 256],
        tile_size=32,
        generator_net_arch=[512, 512],
        embedding_dim=32,
        output_scale=None,
        average_tile_biases=True,
        weight_bound=None,
    ),
)

#: A point of UDRL's search grid for LunarLander (arXiv 1912.02877 v1, appendix B). The paper does not print the values it
#: chose; these are from the middle of the grid where there was no better reason.
UDRL_LUNAR_LANDER: dict[str, Any] = dict(
    learning_rate=1e-3,
    buffer_size=500,
    batch_size=1024,
    last_few=50,
    command_increment_std=1.0,
    extrapolate_horizon=False,
    train_freq=(20, "episode"),
    gradient_steps=200,
    n_warm_up_episodes=30,
    return_scale=0.02,
    horizon_scale=0.02,
    n_candidates=20,
    normalize_observations=False,
    policy_kwargs=dict(net_arch=[64, 128, 128]),
)
