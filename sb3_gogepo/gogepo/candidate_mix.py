"""Who the next candidates are: made by exploration noise or a state critic, by what each earned lately; or run again."""

from __future__ import annotations

import numpy as np

from sb3_gogepo.buffers.policy_buffer import ACTOR, BEST, REFINED, RERUN, PolicyBuffer

#: Candidates that count, the latest
WINDOW = 60
#: Part of them that counts as a success: those of the highest returns
TOP = 0.25
#: Either has at least this share: what fails now may succeed later
MIN_SHARE = 0.1
#: Share of luck in returns as long as nothing is known of it
UNKNOWN_LUCK = 0.2
#: Part of the critic's candidates that are refined: beside the actor's they add little (docs/tried.md)
REFINED_SHARE = 0.15


def critic_share(buffer: PolicyBuffer) -> float:
    """Share of the critic's candidates: in proportion to how often, of the latest, one was among the best.

    Who has not tried yet counts as one that succeeds every other time.
    """
    kinds, returns = buffer.stored_kinds, buffer.stored_returns
    latest = np.flatnonzero(np.isin(kinds, (BEST, ACTOR, REFINED)))[-WINDOW:]
    is_critic, returns = kinds[latest] != BEST, returns[latest]
    is_top = np.zeros(len(latest), dtype=bool)
    is_top[np.argsort(-returns, kind="stable")[: round(TOP * len(latest))]] = True
    of_critic, of_noise = ((is_top[who].sum() + 1) / (who.sum() + 2) for who in (is_critic, ~is_critic))
    return MIN_SHARE + (1 - 2 * MIN_SHARE) * float(of_critic / (of_critic + of_noise))


def rerun_chance(fraction: float, buffer: PolicyBuffer) -> float:
    """Chance of a candidate to be a stored policy that is run again: ``fraction``, times the share of luck in returns."""
    if not fraction:
        return 0.0
    luck = buffer.measured_luck()
    return fraction * (UNKNOWN_LUCK if luck is None else luck.share)


def choose_kind(share: float, chance: float, run_seed: int, number: int) -> int:
    """The kind of candidate ``number``; nothing but the run's seed decides.

    :param share: of the critic's candidates.
    :param chance: of those that are run again.
    """
    if chance and _rng(run_seed, number, 2).random() < chance:
        return RERUN
    if not share:
        return BEST
    shares = [1 - share, share * (1 - REFINED_SHARE), share * REFINED_SHARE]
    return int(_rng(run_seed, number, 1).choice((BEST, ACTOR, REFINED), p=shares))


def _rng(run_seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(entropy=run_seed, spawn_key=key))
