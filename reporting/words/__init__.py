"""Sentences and tables: what is printed, and what pages and the model card say."""
