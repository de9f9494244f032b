from dataclasses import replace

from report_examples import example

from ablate.evidence.frames import grid
from ablate.report.sections.provenance import fact_counts


def test_facts_are_left_out_for_a_word_of_their_name_and_not_for_letters_in_it() -> None:
    """senTIMEnt is a task; peak_memory_bytes is what this run happened to take."""
    facts = {"examples": {"sentiment": 30}, "peak_memory_bytes": 1, "host": "a", "gpu_energy_joules": 2}
    results = example()
    parts = {key: replace(part, facts=facts) for key, part in results.parts.items()}
    assert set(fact_counts(grid(replace(results, parts=parts)))) == {"examples.sentiment"}
