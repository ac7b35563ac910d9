"""Columns of a labels table that mean the same to those who make one, read one and report on one."""

RESERVED = ("file", "patient_id", "split", "age", "sex")  # never labels
SEX_WORDS = {"m": "M", "male": "M", "f": "F", "female": "F"}  # words for ``sex``, and what makers write
PARTS = ("train", "validation", "test")  # what ``split`` may say
