"""Peak memory of joint steps with PCGrad, 2/32/2, each side in a process of its own.

    ABLATE_TEST_ASSETS=... python tests/benchmarks/memory.py

What counts is the process's peak less what it held once all was imported and the text read, before it had a model.
"""

import multiprocessing
import resource
import tempfile
from pathlib import Path

from measure import HEADER, Row

STEPS = 4


def rows() -> list[Row]:
    """Return the row."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        ours, peer = (pool.apply(peak_mib, (who,)) for who in ("ours", "hf"))
    what = "peak memory of joint steps 2/32/2 with PCGrad, against HF + Pytorch-PCGrad"
    return [Row(what, f"{ours:,.0f} MiB", f"{peer:,.0f} MiB", f"{ours / peer:.2f}", "", "≤ 0.5")]


def peak_mib(who: str) -> float:
    """Take a few steps and say how far memory rose, in MiB."""
    from training import HuggingFace, Ours, settings, sizes

    from ablate.trainer.encoders import loading as encoders
    from ablate.trainer.training.token_cache import tokens_of

    batch = sizes(2, 32, 2)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        work = Path(name) / "work"
        tokens_of(settings(), work.parent / "cache")
        before = _peak_mib()
        ours = Ours(work, batch_size=batch, surgery="pcgrad")
        if who == "ours":
            for number in range(STEPS):
                ours.step(number)
        else:
            draws = [ours.draw(number) for number in range(STEPS)]
            peer = HuggingFace(ours, surgery=True)
            del ours.training
            encoders._warm.clear()
            for draw in draws:
                peer.step(draw)
        return _peak_mib() - before


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(HEADER, *rows(), sep="\n")
