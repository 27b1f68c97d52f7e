"""Large sparse problems, one at a time: scaling, curvature of the cones, the derivative's linear system, polish.

`gpudiff.backends.clarabel` puts these together. A reader starts at `problem.py`, and finds the system in `system.py`.
"""
