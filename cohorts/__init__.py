"""Labels tables of public sets and of a hospital's export; the synthetic demo cohort."""
