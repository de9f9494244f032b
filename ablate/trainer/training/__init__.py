"""Training itself: stages, steps, gradient surgery, scoring, saving, estimating how long it takes."""
