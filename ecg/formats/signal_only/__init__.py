"""A copy of a file with only what its signal needs, which is all that the parsers of `ecgdatakit` get.

They read names, dates, comments, measurements and median beats too, and stop at, or warn of, what they do not
understand there. None of it bears on the signal, so none of it is in the copy: it cannot decide whether an
ECG is read, and nothing of the patient is where the parsers work. Of several rhythms the copy has one, chosen
by what it holds. Leads have their standard names in it, in whatever spelling the file has them.
"""
