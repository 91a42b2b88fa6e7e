"""AB listening tests (section 4.4, Figure 2): built from an evaluation, served, and reported.

`design` says who hears what, `clips` cuts and levels the sound, `builder` writes the folder,
`store` keeps answers, `server` takes them, `results` and `report` say what they mean.
"""
