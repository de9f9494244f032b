"""The floor above all: steps and stages, gradient surgery, scoring, saving, measuring."""
