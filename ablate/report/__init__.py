"""From a store to a report, and the same statistics for other people's files. Only reads the store.

terms.py        explanations of terms; references.py: the publications that are cited
formatting.py   numbers and names as people read them
phrases.py      sentences
as_json.py      values as JSON
document.py     the content of a report as frozen values; answers.py has those of analyze and compare
sections/       cells, effects, ledger, provenance, summary
flags/          what a reviewer would object to, one file per kind of rule
plots/          one file per picture
render/         markdown, HTML, LaTeX, CSV, text for a terminal
export.py       copies of models, predictions and tables
report.py       builds the whole report and writes its files; start here
outside/        `ablate analyze` and `ablate compare`
watch.py        a report that is written again while the study runs

Each imports only those before it in this list, outside/ not report.py, and plots/ not flags/; an import contract enforces this.
"""
