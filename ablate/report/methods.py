"""How the numbers of a report came about, in sentences: only those methods that it uses. From the document alone."""

from collections.abc import Mapping
from typing import Any

_OF_METHOD = {
    "seeds × items": "Seeds × items: a difference of two cells is analysed with seeds as readers and items as cases "
    "(Obuchowski and Rockette 1995, degrees of freedom by Hillis 2007), so that it speaks of other seeds and other items. "
    "Pearson's r enters by its pseudo-values; a composite by those of the metrics it is made of.",
    "paired t over seeds": "Paired t over seeds: the differences of each seed are the data (Student 1908); "
    "it speaks of other seeds on these items.",
    "t over seeds, each fitted alone": "Cells share trained parts, so the model is fitted to each seed alone and the "
    "seeds, which are independent, give the error.",
    "least squares, seeds as blocks": "Least squares with seeds as fixed blocks; effects are differences of estimated "
    "marginal means, a conditional factor is coded ±½ where it exists and 0 elsewhere.",
    "least squares": "Least squares on one seed: the noise is estimated from the interactions that are left out.",
    "Lenth": "An unreplicated two-level design: Lenth's pseudo standard error (1989).",
}


def methods(document: Mapping[str, Any]) -> list[str]:
    """Return one sentence per method, correction and rule that the document rests on."""
    used = {row["method"] for row in document["effects"]}
    used |= {difference["method"] for cell in document["cells"] for difference in cell["difference"].values()}
    smallest = document["metric"]["smallest_effect"]
    said = [text for name, text in _OF_METHOD.items() if name in used]
    said.append(
        f"Holm's correction (1979) over the factor effects on {document['metric']['name']}; all other metrics and the "
        "interactions are exploratory (Benjamini and Hochberg 1995). The cells' differences from the reference are "
        "corrected among themselves."
    )
    verdicts = "Verdicts: helps or hurts when the corrected p is below .05"
    if smallest is not None:
        verdicts += f"; no difference that matters when the 90 % interval lies inside ±{smallest}"
    said.append(verdicts + "; else inconclusive, with the effect that 80 % of such studies would have seen.")
    return said
