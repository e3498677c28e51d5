"""Who makes the candidates where there is a state critic: it, or exploration noise alone, by what each has earned lately."""

from __future__ import annotations

import numpy as np

from sb3_gogepo.buffers.luck import Luck
from sb3_gogepo.buffers.policy_buffer import ACTOR, BEST, REFINED, PolicyBuffer

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


def choose_kind(share: float, run_seed: int, number: int) -> int:
    """The kind of candidate ``number``; nothing but the run's seed decides.

    :param share: of the critic's candidates.
    """
    rng = np.random.default_rng(np.random.SeedSequence(entropy=run_seed, spawn_key=(number, 1)))
    shares = [1 - share, share * (1 - REFINED_SHARE), share * REFINED_SHARE]
    return int(rng.choice((BEST, ACTOR, REFINED), p=shares))


def is_rerun(fraction: float, luck: Luck | None, run_seed: int, number: int) -> bool:
    """Is candidate ``number`` one of the best stored policies, run again? Nothing but the run's seed decides.

    :param fraction: of the candidates, if a return were luck alone.
    :param luck: as measured; None: as little is known, a fifth of the fraction.
    """
    chance = fraction * (UNKNOWN_LUCK if luck is None else luck.share)
    return bool(np.random.default_rng(np.random.SeedSequence(entropy=run_seed, spawn_key=(number, 2))).random() < chance)
