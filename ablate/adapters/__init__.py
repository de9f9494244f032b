"""Use the trainers of other libraries, transformers and Lightning, as trainers of a study.
Each adapter needs its library, so import only the one you use."""
