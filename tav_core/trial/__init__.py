"""A trial: each way of editing one clip, tuned and untuned, on weights that somebody has, to look at and to compare.

plan.py          which edits are made, and in which order
run.py           each edit made and measured, or taken from the folder
record.py        what is known of an edit, as JSON beside its video
public.py        trial.json, which holds no frames, no prompts and no paths
page.py          report.html, the contact sheet and the moving grids
preferences.py   preferences.html, which of two edits is better without their names
results.py       all of these, from the records and the videos
"""
