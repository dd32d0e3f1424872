"""Evaluation: methods scored on labelled data sets, and reports of them.

``load_scorer`` loads what is scored, ``Scorer.score`` scores it on a data set, ``dataset_report``
and ``evaluation_report`` make the JSON, ``write_tables`` and ``WorstCases`` what a person reads;
``run_ablation`` varies one thing at a time, ``compare_reports`` sets two reports side by side.
"""
