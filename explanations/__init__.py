"""What in an ECG a model looked at: of one ECG, of an ensemble, of groups, and how it is drawn.

`one_ecg.py` holds the methods, `ensemble.py` and `groups.py` apply them to a finished run, the figures and
`section.py` show what came of it. Needs torch, and for integrated gradients the package captum.
"""
