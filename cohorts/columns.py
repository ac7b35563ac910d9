"""Columns of a labels table that mean the same to those who make one, read one and report on one."""

RESERVED = ("file", "patient_id", "split", "age", "sex")  # never labels
PARTS = ("train", "validation", "test")  # what ``split`` may say
