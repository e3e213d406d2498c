"""Rules of MEIS: (s, S), as published and repaired."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812

from ..envs import MeisEnv, Observation
from .rule import Box, Range, Rule, informed, informed_box, seasonal, wave, wave_box

# Search ranges: levels in days of the demand that a node serves, swings as shares of the levels.
REORDER_DAYS, UP_TO_DAYS, SWING = 20, 25, 2
LOWEST_SEASON = 0.05  # a season may not turn a level round


def _s_big_s(observation: Observation, levels: torch.Tensor, backlog: bool, cover: bool, news: bool) -> torch.Tensor:
    """Of the nodes below their reorder point, the most urgent one orders the option nearest to its gap to S."""
    env: MeisEnv = observation.env  # type: ignore[assignment]
    state, on_order = observation.state, env.on_order(observation.state)
    position = state.on_hand + on_order
    if cover:
        position = position - F.pad(on_order[:, 1:].sum(1, keepdim=True), (0, env.retailers))
    if backlog:
        position = position - F.pad(state.backlog.sum(1), (1, 0))
    if news:
        facts, levels = levels.tensor_split([len(informed_box(env))], 1)
    levels, swings = levels.tensor_split([2 * env.nodes], 1)
    scale = env.mean_demand
    if swings.shape[1]:
        ones = torch.ones_like(swings[:, :1])
        middle, leaf = (wave(observation, torch.cat([ones, s], 1)) for s in swings.tensor_split(2, 1))
        season = torch.cat([middle, leaf.expand(-1, env.retailers)], 1).clamp(min=LOWEST_SEASON)
        levels, scale = levels * season.repeat_interleave(2, 1), scale * season
    if news:
        shares = env.demand_shares.repeat_interleave(2)  # every node has two levels, the middle first
        levels = torch.cat(informed(observation, levels[:, :2], levels[:, 2:], facts, shares), 1)
    reorder, up_to = levels[:, 0::2], levels[:, 1::2]
    gap = reorder - position
    urgent = gap / scale if cover else gap
    node = urgent.argmax(1, keepdim=True)
    action = _nearest_option(env, (up_to - position).gather(1, node), node[:, 0])
    return action * (gap.gather(1, node)[:, 0] > 0)


def _nearest_option(env: MeisEnv, quantity: torch.Tensor, node: torch.Tensor) -> torch.Tensor:
    """The action by which ``node`` ``(batch,)`` orders the option nearest to ``quantity`` ``(batch, 1)``."""
    options = env.parameters.order_options
    middle = (quantity - env.tensor(options.middle)).abs().argmin(1)
    leaf = (quantity - env.tensor(options.leaf)).abs().argmin(1)
    return 1 + torch.where(node == 0, middle, len(options.middle) + (node - 1) * len(options.leaf) + leaf)


def _s_big_s_box(env: MeisEnv, harmonics: int, news: bool) -> Box:
    box: Box = informed_box(env) if news else {}
    for name, daily in zip(env.node_names, env.mean_demand.tolist(), strict=True):
        box[f"reorder point, {name}"] = Range(0, REORDER_DAYS * daily)
        box[f"order-up-to level, {name}"] = Range(0, UP_TO_DAYS * daily)
    for group in ("middle", "leaves"):
        box |= wave_box(env, f"season, {group}", Range(-SWING, SWING), harmonics)
        del box[f"season, {group}"]
    return box


def s_big_s(
    name: str, about: str, *, backlog: bool = True, cover: bool = True, harmonics: int = 0, news: bool = False
) -> Rule:
    """An (s, S) rule: below s, order up to S; equation :eq:`eq-s-S` of the book.

    Args:
        name: of the rule.
        about: what it does.
        backlog: the leaves' positions exclude what customers wait for.
        cover: the node orders whose gap to its reorder point is the largest in days of demand, not in units; and the
            middle's position excludes what the leaves have on order.
        harmonics: of the season in the levels.
        news: the levels follow recent demand and the time left.
    """
    decide = partial(_s_big_s, backlog=backlog, cover=cover, news=news)
    box = partial(_s_big_s_box, harmonics=harmonics, news=news)
    fits = partial(seasonal, harmonics=0 if news else harmonics)
    return Rule(name, MeisEnv, about, box, decide, textbook=not (cover or harmonics or news), fits=fits)


RULES = (
    s_big_s("s-S", "(s, S) as published: largest gap first.", backlog=False, cover=False),
    s_big_s("s-S-backlog", "(s, S), backlog in the position.", cover=False),
    s_big_s("s-S-cover", "(s, S), net positions, largest gap in days first."),
    s_big_s("s-S-cover-seasonal", "(s, S) by cover, levels that swing with the season.", harmonics=1),
    s_big_s("s-S-cover-informed", "(s, S) by cover; seasonal levels follow recent demand and the time left.",
            harmonics=1, news=True),
)  # fmt: skip
