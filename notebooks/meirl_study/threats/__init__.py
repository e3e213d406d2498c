"""Experiments for the chapters on what can be wrong with a comparison, the study's or ours; a module a kind of threat.

- `baselines`: published rules in their search box, under their clip on orders, and seen by an evaluator who discounts;
- `searching`: searches for levels on other chains or in other boxes, kept on disk;
- `information`: what a fact is worth to those who see it;
- `choices`: the same choice on other validation scenarios, the same search with other seeds;
- `neighbours`: chains that nobody looked at, with rules tuned and PPO trained on each;
- `variants`: agents that differ in one respect: a fault, a discount, what they see;
- `transfer`: policies made for one variant of a chain, played on the other;
- `verdicts`: what one seed, unpaired tests, selection, one wild episode and a confounded design do to a verdict;
- `reading`: how the chapters show estimates.
"""
