"""Run the trainers of other libraries as trainers of this package.
Each adapter needs its library, so import only the one you use."""
