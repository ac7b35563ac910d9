"""What a model looked at in an ECG: one model, all models of an ensemble, and means over groups of ECGs.

`attribution.py` holds the methods, `ensemble.py` and `groups.py` apply them to a finished run, and
`group_means.py` averages. Needs torch, and for integrated gradients the package captum.
"""
