"""Columns of a labels table, with one meaning for what makes, reads and reports on such a table."""

RESERVED = ("file", "patient_id", "split", "age", "sex")  # never labels
SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}  # words for ``sex``, and what makers write
PARTS = ("train", "validation", "test")  # the values of ``split``
