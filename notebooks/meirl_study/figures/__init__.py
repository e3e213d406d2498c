"""Every figure of the book, one function each: it draws what it is given and returns a matplotlib `Figure`.

House style: colours told apart by colour-blind eyes; markers or line styles beside them, for print; axis labels with
units; no titles, since a caption says what to see. A table that lacks a column is an error that names it.
"""

# isort: off
from .cells import cell_curves
from .evidence import (
    cost_parts, dual_curve, equal_effort, evidence, forest, gaps, hindsight, intervals, seed_spread, services, sweep,
    tails,
)  # fmt: skip
from .learning import pays
from .policies import (
    cost_surface, curves, duel, ladder, ordering, searches, shared_luck, surrogate, training,
)  # fmt: skip
from .known import optimality
from .verdict import behaviour, effort, frontier, opponents
from .problem import chain, episode, same_luck, stressors, wrong_choice

__all__ = [
    "behaviour", "cell_curves", "chain", "cost_parts", "cost_surface", "curves", "dual_curve", "duel", "effort",
    "episode", "equal_effort", "evidence", "forest", "frontier", "gaps", "hindsight", "intervals", "ladder",
    "opponents", "optimality", "ordering", "pays", "same_luck", "searches", "seed_spread", "services", "shared_luck",
    "stressors", "surrogate", "sweep", "tails", "training", "wrong_choice",
]  # fmt: skip
