"""What the chapters share: the study and its statistics, the published results, figures, experiments.

`chapter` is what every chapter begins and ends with, `study` trains algorithm x environment x seed, `statistics` judges
its table, `published` and `replay` hold what the published study reports, `cli` adds verbs to ``python -m meirl``.
Others serve one chapter or two and are named for their subject.
"""
