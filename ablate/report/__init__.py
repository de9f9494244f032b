"""From a store to a report, and the same statistics for other people's files. Only reads the store.

report.py       builds the whole report and writes its files; start here
document.py     the content of a report as frozen values; answers.py has those of analyze and compare
formatting.py   numbers and names as people read them; phrases.py and terms.py: sentences and explanations
sections/       cells, effects, ledger, provenance, summary
flags/          what a reviewer would object to, one file per kind of rule
plots/          one file per picture
render/         markdown, HTML, LaTeX, CSV, text for a terminal
outside/        `ablate analyze` and `ablate compare`
export.py       copies of models, predictions and tables

Each imports only those above it in this list, and report.py imports all of them; an import contract enforces this.
"""
