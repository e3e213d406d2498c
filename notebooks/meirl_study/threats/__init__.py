"""Experiments for the chapter on threats to validity, one module a kind of threat.

- `searching`: searches for levels, kept on disk, and how they race against learners;
- `baselines`: published rules in their search box, under their clip on orders, and seen by an evaluator who discounts;
- `variants`: short runs that differ in one respect: a fault, a discount, what the agent sees;
- `stressors`: Env-2's stressors switched off one by one;
- `transfer`: policies made for one variant of a chain, played on the other;
- `verdicts`: what one seed, unpaired tests, selection, means and a confounded design do to a verdict;
- `reading`: how the chapter shows estimates.
"""
