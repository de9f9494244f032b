"""Answers of R 4.2.2 to its own data sets, given by our functions.

Each docstring is the call that gave the figures. `emm(model, f)` stands for emmeans 1.8.4: `contrast(emmeans(model, f),
"trt.vs.ctrl1", adjust = "none")`, the other levels less the first; `Anova` is that of car 3.1-1.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Json, not_none
from outside_json import analyze_table, compare_files
from published_tables import BH_1995, BICYCLE_EFFECTS, SLEEP, TOOTH_GROWTH, write_csv
from r_tables import (
    ATTITUDE,
    CHICK_FEED,
    CO2,
    FAMILY_THERAPY,
    GENOTYPE,
    IMMER,
    INSECT_SPRAYS,
    MORLEY,
    OATS,
    ORCHARD_SPRAYS,
    PENICILLIN,
    PILOT_PLANT,
    PLANT_GROWTH,
    POISONS,
    QUINE,
    RIGHT_BY_SEED,
    SEEDS_BY_ITEMS,
    STACK_LOSS,
    SWISS,
    TREES,
    WARP_BREAKS,
)

from ablate.stats.correlations import (
    fisher_interval,
    pearson,
    pseudo_values,
    steiger_z,
    williams_t,
    zou_interval,
)
from ablate.stats.lenth import lenth
from ablate.stats.mcnemar import mcnemar, paired_interval
from ablate.stats.mrmc import mrmc
from ablate.stats.multiple import benjamini_hochberg, holm
from ablate.stats.optimism import expected_best
from ablate.stats.paired import paired_t, sign_flip_p
from ablate.stats.power import mde, mde_paired

SAME = 1e-7  # R's figures are given to nine or ten digits


def analysed(folder: Path, factors: str, rows: Iterable[tuple[object, ...]], **options: Any) -> Json:
    """Analyse rows (levels of `factors`, y); a last factor of `factors` that is the `block` is taken as one."""
    names = factors.split()
    path = write_csv(folder / "t.csv", [*names, "y"], list(rows))
    return analyze_table(path, "y", [n for n in names if n != options.get("block")], **options)


def each(table: Mapping[Any, Iterable[float]]) -> Iterator[tuple[Any, ...]]:
    """Yield one row for each value of a table {levels: values}."""
    for key, values in table.items():
        levels = key if isinstance(key, tuple) else (key,)
        for value in values:
            yield *levels, value


def terms(document: Json, *keys: str) -> dict[str, tuple[Any, ...]]:
    return {row["term"]: tuple(row[key] for key in keys) for row in document["anova"]}


def effects(document: Json, factor: str) -> list[tuple[Any, ...]]:
    """Return (to, estimate, standard error, low, high, p) of each effect of one factor."""
    return [
        (row["to"], row["estimate"], row["se"], *row["ci95"], row["p"])
        for row in document["effects"]
        if row["factor"] == factor
    ]


def same(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows to compare with."""
    return [
        tuple(v if isinstance(v, str) else pytest.approx(v, rel=SAME, abs=0) for v in row) for row in rows
    ]


def figures(**of_terms: float | tuple[float, ...]) -> Json:
    return {
        name.replace("__", ":"): pytest.approx(values, rel=SAME, abs=0) for name, values in of_terms.items()
    }


# Tables with nothing but factors: analyses of variance and marginal means


def test_plant_growth(tmp_path: Path) -> None:
    """m <- lm(weight ~ group, PlantGrowth); anova(m); emm(m, "group"); p.adjust(p, "holm")"""
    document = analysed(tmp_path, "group", each(PLANT_GROWTH))
    assert terms(document, "df", "ss", "F", "p")["group"] == pytest.approx(
        (2, 3.76634, 4.846087862, 0.01590995833), rel=SAME
    )
    assert effects(document, "group") == same(
        [
            ("trt1", -0.371, 0.2787816084, -0.94301261156, 0.2010126116, 0.19438788005),
            ("trt2", 0.494, 0.2787816084, -0.07801261156, 1.0660126116, 0.08768167506),
        ]
    )
    assert [row["p_holm"] for row in document["effects"]] == pytest.approx([0.1943878801, 0.1753633501])


def test_insect_sprays(tmp_path: Path) -> None:
    """m <- lm(count ~ spray, InsectSprays); anova(m); emm(m, "spray"); p.adjust(p, "holm")"""
    document = analysed(tmp_path, "spray", each(INSECT_SPRAYS))
    assert terms(document, "ss", "F", "p")["spray"] == pytest.approx(
        (2668.833333333, 34.70228206, 3.182583726e-17), rel=SAME, abs=0
    )
    assert [row["estimate"] for row in document["effects"]] == pytest.approx(
        [0.8333333333, -12.4166666667, -9.5833333333, -11, 2.1666666667]
    )
    assert [row["p_holm"] for row in document["effects"]] == pytest.approx(
        [6.044760650e-01, 3.633446416e-10, 2.945072883e-07, 1.101568785e-08, 3.611995205e-01], rel=SAME, abs=0
    )


def test_chicks_by_feed_in_unequal_numbers(tmp_path: Path) -> None:
    """m <- lm(weight ~ feed, chickwts); anova(m); emm(m, "feed"); p.adjust(p, "holm")"""
    document = analysed(tmp_path, "feed", each(CHICK_FEED))
    assert terms(document, "df", "ss", "F", "p") == {
        "feed": pytest.approx((5, 231129.1621, 15.36479977, 5.936419853e-10), rel=SAME, abs=0),
        "residual": (65, pytest.approx(195556.0210), None, None),
    }
    assert effects(document, "feed") == same(
        [
            ("horsebean", -163.383333333, 23.48549051, -210.28709672, -116.479569945, 2.067996611e-09),
            ("linseed", -104.833333333, 22.39253659, -149.55431702, -60.112349648, 1.493344014e-05),
            ("meatmeal", -46.674242424, 22.89580250, -92.40031753, -0.948167318, 0.04556671981),
            ("soybean", -77.154761905, 21.57798818, -120.24898008, -34.060543728, 0.0006654078813),
            ("sunflower", 5.333333333, 22.39253659, -39.38765035, 50.054317019, 0.8124949185),
        ]
    )
    assert [row["p_holm"] for row in document["effects"]] == pytest.approx(
        [1.033998306e-08, 5.973376054e-05, 0.09113343961, 0.001996223644, 0.8124949185], rel=SAME
    )


def test_warp_breaks_with_their_interaction(tmp_path: Path) -> None:
    """m <- lm(breaks ~ wool * tension, warpbreaks); anova(m); emm(m, "wool"); emm(m, "tension")"""
    document = analysed(tmp_path, "wool tension", each(WARP_BREAKS), baseline={"tension": "L"})
    assert terms(document, "ss", "F", "p") == figures(
        wool=(450.6666666667, 3.765288361, 0.0582129759596),
        tension=(2034.2592592593, 8.498046648, 0.0006926209367),
        wool__tension=(1002.7777777778, 4.189068967, 0.0210441907279),
    ) | {"residual": (pytest.approx(5745.1111111), None, None)}
    assert effects(document, "wool") == same(
        [("B", -5.777777778, 2.97756817, -11.76457983, 0.2090242785, 0.05821297596)]
    )
    assert effects(document, "tension") == same(
        [
            ("H", -14.72222222, 3.646761346, -22.05452734, -7.389917108, 0.0001938456219),
            ("M", -10, 3.646761346, -17.33230511, -2.667694886, 0.0085521421443),
        ]
    )


def test_an_interaction_is_half_the_difference_of_differences(tmp_path: Path) -> None:
    """contrast(emmeans(m, ~ wool * tension), interaction = c("revpairwise", "trt.vs.ctrl1")), m as above, halved."""
    document = analysed(tmp_path, "wool tension", each(WARP_BREAKS), baseline={"tension": "L"})
    found = [(row["to"], row["estimate"], row["se"], row["p"]) for row in document["interactions"]]
    assert found == [
        (["B", "H"], *same([(10.55555556 / 2, 7.293522691 / 2, 0.154326580470)])[0]),
        (["B", "M"], *same([(21.11111111 / 2, 7.293522691 / 2, 0.005698286917)])[0]),
    ]


def test_tooth_growth_marginal_means_and_interactions(tmp_path: Path) -> None:
    """m <- lm(len ~ supp * factor(dose), ToothGrowth); emm(m, "d"); interaction contrasts as above, halved"""
    document = analysed(tmp_path, "supp dose", each(TOOTH_GROWTH))
    assert effects(document, "dose") == same(
        [
            ("1", 9.130, 1.148353088, 6.827690678, 11.43230932, 1.185596941e-10),
            ("2", 15.495, 1.148353088, 13.192690678, 17.79730932, 6.173340178e-19),
        ]
    )
    assert [(row["estimate"], row["p"]) for row in document["interactions"]] == same(
        [(-0.68 / 2, 0.7683075654), (5.33 / 2, 0.0241082566)]
    )


def test_tooth_growth_with_rows_lost(tmp_path: Path) -> None:
    """lm(len ~ supp * factor(dose), ToothGrowth[-c(1:6, 11:13, 31, 55:59), ]); emm; Anova of types II and III"""
    lost = {("VC", "0.5"): 6, ("VC", "1"): 3, ("OJ", "0.5"): 1}
    rest = {key: values[lost.get(key, 0) :] for key, values in TOOTH_GROWTH.items()}
    rest["OJ", "2"] = [*TOOTH_GROWTH["OJ", "2"][:4], *TOOTH_GROWTH["OJ", "2"][9:]]
    document = analysed(tmp_path, "supp dose", each(rest), baseline={"supp": "OJ"})
    second, third = (
        {
            row["term"]: row["ss"]
            for row in [*document["anova"], *document["anova_other"]]
            if row["type"] == kind
        }
        for kind in ("II", "III")
    )
    assert second == figures(supp=84.11430295, dose=1441.05653571, supp__dose=109.56625397)
    assert third == figures(supp=74.55890968, dose=1271.67610521, supp__dose=109.56625397)
    assert effects(document, "supp") == same(
        [("VC", -2.736560847, 1.255457448, -5.275963228, -0.1971584654, 0.03537854769)]
    )
    assert effects(document, "dose") == same(
        [
            ("1", 9.05515873, 1.539301608, 5.941627345, 12.16869012, 7.538344320e-07),
            ("2", 14.41944444, 1.610474658, 11.161951976, 17.67693691, 5.314845214e-11),
        ]
    )


def test_poisons_by_their_rate(tmp_path: Path) -> None:
    """m <- lm(1 / time ~ poison * treat, poisons); anova(m); emm(m, "treat")"""
    rows = [(*levels, repr(1 / time)) for *levels, time in each(POISONS)]
    document = analysed(tmp_path, "poison treat", rows)
    assert terms(document, "ss", "F", "p") == figures(
        poison=(34.877119822, 72.634747564, 2.309936073e-13),
        treat=(20.414289348, 28.343065808, 1.375621728e-09),
        poison__treat=(1.570772262, 1.090424967, 0.3867329168),
    ) | {"residual": (pytest.approx(8.643083068), None, None)}
    assert effects(document, "treat") == same(
        [
            ("B", -1.6574023826, 0.2000356805, -2.0630935461, -1.2517112190, 7.322280125e-10),
            ("C", -0.5721354359, 0.2000356805, -0.9778265994, -0.1664442723, 0.007005132647),
            ("D", -1.3583382862, 0.2000356805, -1.7640294498, -0.9526471227, 6.191598932e-08),
        ]
    )


def test_uptake_of_co2_by_three_factors(tmp_path: Path) -> None:
    """m <- lm(uptake ~ Type * Treatment * factor(conc), CO2); anova(m); emm(m, "Type")"""
    document = analysed(tmp_path, "Type Treatment conc", each(CO2), baseline={"Type": "Quebec"})
    assert document["order"] == "full"
    assert terms(document, "df", "F", "p") == figures(
        Type=(1, 399.758042393, 3.614399817e-27),
        Treatment=(1, 117.368189595, 2.318640055e-15),
        conc=(6, 80.548084673, 1.011584176e-25),
        Type__Treatment=(1, 26.812157977, 3.154629198e-06),
        Type__conc=(6, 7.412359715, 7.243645672e-06),
        Treatment__conc=(6, 1.999095010, 0.08107375351),
        Type__Treatment__conc=(6, 2.216424629, 0.05468575853),
    ) | {"residual": (56, None, None)}
    assert effects(document, "Type") == same(
        [("Mississippi", -12.65952381, 0.6331677191, -13.92791117, -11.39113645, 3.614399817e-27)]
    )


def test_litters_and_mothers_in_unequal_numbers(tmp_path: Path) -> None:
    """m <- lm(Wt ~ Litter * Mother, genotype); anova(m); Anova(m, type = 2); with contr.sum Anova(m, type = 3)"""
    document = analysed(tmp_path, "Litter Mother", each(GENOTYPE))
    found = {(row["type"], row["term"]): row["ss"] for row in document["anova"] + document["anova_other"]}
    assert found == pytest.approx(
        {
            ("I", "Litter"): 60.15728581, ("I", "Mother"): 775.08058777, ("I", "Litter:Mother"): 824.07251167,
            ("II", "Litter"): 63.63248833, ("II", "Mother"): 775.08058777, ("II", "Litter:Mother"): 824.07251167,
            ("III", "Litter"): 27.6559242, ("III", "Mother"): 671.7376486, ("III", "Litter:Mother"): 824.0725117,
            (None, "residual"): 2440.8165,
        },
        rel=SAME,
    )  # fmt: skip


def test_marginal_means_of_litters_and_mothers(tmp_path: Path) -> None:
    """emm(m, "Litter"); emm(m, "Mother"), m <- lm(Wt ~ Litter * Mother, genotype)"""
    document = analysed(tmp_path, "Litter Mother", each(GENOTYPE))
    assert effects(document, "Litter") == same(
        [
            ("B", -1.593750000, 2.720578989, -7.073277361, 3.885777361, 0.5609280966),
            ("I", -1.666250000, 2.720578989, -7.145777361, 3.813277361, 0.5433151628),
            ("J", -1.280416667, 2.668154442, -6.654355570, 4.093522237, 0.6336310795),
        ]
    )
    assert effects(document, "Mother") == same(
        [
            ("B", 4.0129166667, 2.751554321, -1.528998216, 9.5548315490, 0.15167012276),
            ("I", -0.8179166667, 2.646893908, -6.149034657, 4.5132013238, 0.75874012685),
            ("J", -6.0254166667, 2.772012255, -11.608535944, -0.4422973889, 0.03503151642),
        ]
    )


def test_a_missing_cell_leaves_the_main_effects_of_the_additive_model(tmp_path: Path) -> None:
    """m <- lm(breaks ~ wool + tension, subset(warpbreaks, !(wool == "B" & tension == "H"))); Anova(m); emm"""
    without = {key: values for key, values in WARP_BREAKS.items() if key != ("B", "H")}
    document = analysed(tmp_path, "wool tension", each(without), baseline={"tension": "L"})
    assert terms(document, "df", "ss", "F", "p") == figures(
        wool=(1, 300.4444444, 1.878827936, 0.17792518205),
        tension=(2, 1467.1296296, 4.587344157, 0.01592696606),
    ) | {"residual": (41, pytest.approx(6556.3333333), None, None)}
    assert effects(document, "wool") == same(
        [("B", -5.777777778, 4.215191693, -14.2905301, 2.734974545, 0.1779251821)]
    )
    assert effects(document, "tension") == same(
        [
            ("H", -14.72222222, 5.576174475, -25.98353503, -3.460909413, 0.01166740694),
            ("M", -10, 4.215191693, -18.51275232, -1.487247677, 0.02244838241),
        ]
    )


def test_days_absent_from_school_with_a_cell_missing(tmp_path: Path) -> None:
    """m <- lm(Days ~ (Eth + Sex + Age + Lrn)^2 - Age:Lrn, quine); Anova(m, type = 2)"""
    document = analysed(tmp_path, "Eth Sex Age Lrn", each(QUINE))
    assert terms(document, "df", "ss", "F", "p") == figures(
        Eth=(1, 2515.085463973, 12.265547228347, 0.0006330252769),
        Sex=(1, 192.788026869, 0.940186996622, 0.3340303209075),
        Age=(3, 2586.811969182, 4.205114144675, 0.0070944024969),
        Lrn=(1, 1088.833669804, 5.310014706098, 0.0227889475784),
        Eth__Sex=(1, 223.539349272, 1.090154782080, 0.2983745671513),
        Eth__Age=(3, 2340.836880184, 3.805257742931, 0.0118141495650),
        Eth__Lrn=(1, 1.175871455, 0.005734479831, 0.9397532254249),
        Sex__Age=(3, 2564.015015794, 4.168055482394, 0.0074374716347),
        Sex__Lrn=(1, 175.095873677, 0.853906055612, 0.3571617220812),
    ) | {"residual": (130, pytest.approx(26656.871008648), None, None)}
    assert any(warning.endswith(": Age:Lrn") for warning in document["warnings"])


def test_marginal_means_of_days_absent_with_a_cell_missing(tmp_path: Path) -> None:
    """emm(m, "Eth"); emm(m, "Age"); emm(m, "Lrn"), m as above"""
    document = analysed(tmp_path, "Eth Sex Age Lrn", each(QUINE))
    assert effects(document, "Eth") == same(
        [("N", -6.971494564, 2.519661317, -11.95634314, -1.986645987, 0.006486065796)]
    )
    assert effects(document, "Age") == same(
        [
            ("F1", -7.706570033, 3.895678460, -15.4137039653, 5.638985535e-04, 0.05001651862),
            ("F2", 4.101357158, 3.953789438, -3.7207423942, 11.92345671, 0.30151092021),
            ("F3", 7.202330745, 3.908109852, -0.5293972091, 14.93405870, 0.06761870123),
        ]
    )
    assert effects(document, "Lrn") == same(
        [("SL", 6.949999148, 3.058201796, 0.8997126387, 13.00028566, 0.02469315491)]
    )


def test_days_absent_by_main_effects_alone(tmp_path: Path) -> None:
    """m <- lm(Days ~ Eth + Sex + Age + Lrn, quine); Anova(m); emm(m, "Eth"); emm(m, "Age")"""
    document = analysed(tmp_path, "Eth Sex Age Lrn", each(QUINE), order="1")
    assert terms(document, "ss", "p") == figures(
        Eth=(2774.0160942, 0.0007213695788),
        Sex=(213.8164191, 0.3386314609169),
        Age=(2645.8359802, 0.0117069300143),
        Lrn=(689.2883587, 0.0869341678334),
    ) | {"residual": (pytest.approx(32236.6413696), None)}
    assert effects(document, "Eth") == same(
        [("N", -8.745183949, 2.528610602, -13.74469651, -3.745671393, 0.0007213695788)]
    )
    assert (
        effects(document, "Age")[2]
        == same([("F3", 6.804958012, 4.106743833, -1.314804416, 14.924720440, 0.09977083106)])[0]
    )


# Tables with blocks


def test_penicillin_by_blend(tmp_path: Path) -> None:
    """anova(lm(yield ~ factor(blend) + treatment))"""
    rows = [(blend, t, y) for blend, ys in PENICILLIN.items() for t, y in zip("ABCD", ys, strict=True)]
    document = analysed(tmp_path, "blend treatment", rows, block="blend")
    assert terms(document, "ss", "F", "p") == figures(
        blend=(264, 3.504424779, 0.04074617318), treatment=(70, 1.238938053, 0.33865811619)
    ) | {"residual": (pytest.approx(226), None, None)}


def test_michelsons_speed_of_light_by_run(tmp_path: Path) -> None:
    """anova(lm(Speed ~ factor(Run) + factor(Expt), morley))"""
    rows = [(run, experiment, y) for experiment, ys in MORLEY.items() for run, y in enumerate(ys)]
    document = analysed(tmp_path, "run experiment", rows, block="run")
    assert terms(document, "ss", "F", "p") == figures(
        run=(113344, 1.105347591, 0.363209340668), experiment=(94514, 4.378144459, 0.003070589263)
    ) | {"residual": (pytest.approx(410166), None, None)}


def test_barley_by_place(tmp_path: Path) -> None:
    """anova(lm(Y1 ~ Loc + Var, immer))"""
    rows = [(place, v, y) for place, (ys, _) in IMMER.items() for v, y in zip("MSVTP", ys, strict=True)]
    document = analysed(tmp_path, "place variety", rows, block="place")
    assert terms(document, "ss", "F", "p") == figures(
        place=(17829.846667, 21.892266937, 1.750541819e-07), variety=(2756.624667, 4.230880681, 0.01213856404)
    ) | {"residual": (pytest.approx(3257.743333), None, None)}


def test_oats_by_block(tmp_path: Path) -> None:
    """anova(lm(Y ~ B + V * N, oats))"""
    levels = ("0.0", "0.2", "0.4", "0.6")
    rows = [(b, v, n, y) for (b, v), ys in OATS.items() for n, y in zip(levels, ys, strict=True)]
    document = analysed(tmp_path, "block V N", rows, block="block")
    assert terms(document, "ss", "F", "p") == figures(
        block=(15875.277778, 12.4894408309, 4.093052825e-08),
        V=(1786.361111, 3.5134269321, 0.03664635154),
        N=(20020.5, 26.2509685033, 1.134536196e-10),
        V__N=(321.75, 0.2109400144, 0.9718678937),
    ) | {"residual": (pytest.approx(13982.055556), None, None)}
    found = [row["estimate"] for row in document["effects"] if row["factor"] == "N"]
    assert found == pytest.approx([19.5, 34.83333333, 44])


def test_orchard_sprays_in_a_latin_square_of_eight(tmp_path: Path) -> None:
    """anova(lm(decrease ~ factor(rowpos) + factor(colpos) + treatment, OrchardSprays))"""
    rows = [
        (row, column, treatment, y)
        for row, (treatments, ys) in enumerate(ORCHARD_SPRAYS)
        for column, (treatment, y) in enumerate(zip(treatments, ys, strict=True))
    ]
    document = analysed(tmp_path, "row column treatment", rows, block="row")
    assert terms(document, "ss", "F", "p") == figures(
        row=(4767.484375, 1.788375987, 0.1151080929),
        column=(2807.234375, 1.053048138, 0.4100371745),
        treatment=(56159.984375, 21.066700922, 7.454921606e-12),
    ) | {"residual": (pytest.approx(15994.906250), None, None)}


# Two-level tables that ran once


def test_pilot_plant_effects_with_lenths_margins() -> None:
    """2 * coef(lm(y ~ A * B * C * D)); Lenth's formulas as in BsMD's LenthPlot"""
    runs = np.arange(16)
    signs = {name: 2 * (runs >> k & 1) - 1 for k, name in enumerate("ABCD")}
    names = [[n for k, n in enumerate("ABCD") if term >> k & 1] for term in range(1, 16)]
    found = not_none(lenth([np.prod([signs[n] for n in one], axis=0) @ PILOT_PLANT / 8 for one in names]))
    assert (found.s0, found.pse) == (1.125, 1.125)
    assert (found.me, found.sme) == pytest.approx((2.89190456509, 5.87098266977), rel=SAME)


def test_pilot_plant_through_analyze(tmp_path: Path) -> None:
    """2 * coef(lm(y ~ A * B * C * D))"""
    rows = [(*(i >> k & 1 for k in range(4)), y) for i, y in enumerate(PILOT_PLANT)]
    document = analysed(tmp_path, "A B C D", rows, order="full")
    assert document["lenth"]["effects"] == pytest.approx(
        {
            "A": -8, "B": 24, "C": -2.25, "D": -5.5, "A:B": 1, "A:C": 0.75, "B:C": -1.25, "A:D": 0, "B:D": 4.5,
            "C:D": -0.25, "A:B:C": -0.75, "A:B:D": 0.5, "A:C:D": -0.25, "B:C:D": -0.75, "A:B:C:D": -0.25,
        }
    )  # fmt: skip
    assert document["lenth"]["sme"] == pytest.approx(5.87098266977, rel=SAME)


def test_lenths_margins_of_the_bicycle() -> None:
    """Lenth's formulas as in BsMD's LenthPlot: one effect of seven is left out of the second median."""
    found = not_none(lenth(list(BICYCLE_EFFECTS.values())))
    assert (found.s0, found.pse, found.me, found.sme) == pytest.approx(
        (3.75, 1.5, 5.64618460812, 13.51246067092), rel=SAME
    )


# Many tests at once


def test_all_of_benjamini_and_hochbergs_p_values() -> None:
    """p.adjust(p, "holm"); p.adjust(p, "BH")"""
    assert holm(BH_1995) == pytest.approx(
        [.0015, .0056, .0247, .1140, .2211, .2780, .2780, .2780, .3213, 1, 1, 1, 1, 1, 1]
    )  # fmt: skip
    assert benjamini_hochberg(BH_1995) == pytest.approx(
        [.0015, .003, .0095, .035625, .0603, .0638571428571, .0638571428571, .0645, .0765, .486, .5811818181818,
         .714875, .7532307692308, .8132142857143, 1]
    )  # fmt: skip


def test_ties_among_p_values() -> None:
    """p.adjust(p, "holm"); p.adjust(p, "BH")"""
    p = [0.012, 0.2, 0.012, 0.03, 0.03, 0.5, 0.0004, 0.031]
    assert holm(p) == pytest.approx([0.084, 0.4, 0.084, 0.15, 0.15, 0.5, 0.0032, 0.15])
    assert benjamini_hochberg(p) == pytest.approx(
        [0.032, 0.2285714285714, 0.032, 0.0413333333333, 0.0413333333333, 0.5, 0.0032, 0.0413333333333]
    )


# Pairs


@pytest.mark.parametrize(
    ("b", "c", "exact", "mid"),
    [
        (150, 86, 3.71593613957e-05, 2.89338951762e-05),
        (6, 16, 0.0524787902832, 0.0346896648407),
        (59, 89, 0.0168414227568, 0.0137120330798),
        (3, 12, 0.03515625, 0.0212707519531),
        (0, 6, 0.03125, 0.015625),
        (25, 25, 1, 0.94386241367),
    ],
)
def test_mcnemar_is_the_binomial_test(b: int, c: int, exact: float, mid: float) -> None:
    """binom.test(b, b + c)$p.value; 2 * pbinom(min(b, c), b + c, .5) - dbinom(b, b + c, .5), a tie 1 - dbinom / 2"""
    found = mcnemar(b, c, 2000)
    assert (found.p_exact, found.p_mid) == pytest.approx((exact, mid), rel=1e-9)


@pytest.mark.parametrize(
    ("b", "c", "n", "interval"),
    [
        (150, 86, 1600, (-0.058722845052, -0.021177279792)),
        (6, 16, 161, (0.00320057543656, 0.11949881106651)),
        (1, 7, 21, (0.0133798237683, 0.5083593066664)),
    ],
)
def test_bonett_and_prices_interval(b: int, c: int, n: int, interval: tuple[float, float]) -> None:
    """By the formula in R: p1 = (b + 1) / (n + 2), p2 likewise, p2 - p1 ± z * sqrt((p1 + p2 - (p2 - p1)^2) / (n + 2))"""
    assert paired_interval(b, c, n) == pytest.approx(interval, rel=1e-9)


def test_exact_mcnemar_through_compare(tmp_path: Path) -> None:
    """binom.test(6, 22)$p.value; Bonett & Price as above: 6 items that A alone gets right, 16 that B alone does, of 161"""
    right = {"a": [1] * 6 + [0] * 16 + [1] * 139, "b": [0] * 6 + [1] * 16 + [1] * 139}
    gold, a, b = (
        write_csv(tmp_path / f"{name}.csv", ["id", column], list(enumerate(values)))
        for name, column, values in (
            ("gold", "label", [1] * 161), ("a", "prediction", right["a"]), ("b", "prediction", right["b"])
        )
    )  # fmt: skip
    document = compare_files(gold, [a], [b], "accuracy")
    assert (document["method"], document["p"]) == ("mcnemar_exact", pytest.approx(0.0524787902832, rel=1e-9))
    assert document["ci95"] == pytest.approx([0.00320057543656, 0.11949881106651], rel=1e-9)


def test_paired_t_of_barley_in_two_years() -> None:
    """t.test(immer$Y1, immer$Y2, paired = TRUE)"""
    found = not_none(
        paired_t([a - b for ones, others in IMMER.values() for a, b in zip(ones, others, strict=True)])
    )
    assert (found.estimate, found.t, found.df, found.p) == pytest.approx(
        (15.91333333, 3.323987304, 29, 0.00241263386), rel=SAME
    )
    assert found.ci95 == pytest.approx((6.12195386668, 25.70471279999), rel=SAME)


def test_paired_t_of_weight_gained_in_therapy() -> None:
    """with(subset(anorexia, Treat == "FT"), t.test(Postwt - Prewt))"""
    found = not_none(paired_t(FAMILY_THERAPY))
    assert (found.t, found.p) == pytest.approx((4.184908135, 0.000700253106), rel=SAME)
    assert found.ci95 == pytest.approx((3.58469953588, 10.94471222883), rel=SAME)


@pytest.mark.parametrize(
    ("differences", "count", "of"),
    [
        ([0.8, 0.6, 0.3, -0.1, 1.1, -0.2, 0.3, 0.5, 0.5, 0.3], 14, 2**10),
        (SLEEP, 4, 2**10),
        (FAMILY_THERAPY, 138, 2**17),
    ],
)
def test_sign_flips_counted_one_by_one(differences: list[float], count: int, of: int) -> None:
    """g <- as.matrix(expand.grid(rep(list(c(-1, 1)), n))); sum(abs(g %*% d) >= abs(sum(d)) - 1e-9)

    The first are those of MASS::shoes, B less A.
    """
    assert sign_flip_p(differences) * of == pytest.approx(count)


# Correlations

# r of A and of B with the gold, r of A with B; Williams' t and p by psych 2.2.9, `r.test(n, ra, rb, rab)` (the sign is
# ours: B − A); Steiger's z and Zou's interval by their formulas in R; `cor.test(B, gold)$conf.int`.
CORRELATIONS = [
    (ATTITUDE, (0.825417569542, 0.6236781645, 0.596735806267), (-2.07357274769, 0.047784263597), -2.00201596951,
     (-0.468102344694, -0.00538570172644), (0.339747504261, 0.803424329508)),
    (STACK_LOSS, (0.875504404419, 0.919663452906, 0.781852332952), (0.892839679819, 0.38372461736), 0.882425202397,
     (-0.0622184168233, 0.194410405841), (0.809257010693, 0.967318462704)),
    (SWISS, (-0.645882706457, -0.663788857035, 0.698415296288), (-0.215104338656, 0.830679914239), -0.21492561221,
     (-0.193791756647, 0.153896079024), (-0.798707532635, -0.465320585028)),
    (TREES, (0.598249651992, 0.967119368256, 0.51928007195), (6.44039794296, 5.64256795335e-07), 5.78186667008,
     (0.186866103892, 0.653730671451), (0.932251899319, 0.984188667889)),
]  # fmt: skip


@pytest.mark.parametrize(("table", "rs", "williams", "steiger", "zou", "fisher"), CORRELATIONS)
def test_two_correlations_with_one_gold(
    table: tuple[list[float], list[int], list[float]],
    rs: tuple[float, float, float],
    williams: tuple[float, float],
    steiger: float,
    zou: tuple[float, float],
    fisher: tuple[float, float],
) -> None:
    gold, a, b = table
    found = pearson(a, gold), pearson(b, gold), pearson(a, b)
    test = williams_t(*found, len(gold))
    assert found == pytest.approx(rs, rel=1e-9)
    assert (test.statistic, test.p) == pytest.approx(williams, rel=1e-9)
    assert not_none(steiger_z(*found, len(gold))).statistic == pytest.approx(steiger, rel=1e-9)
    assert zou_interval(*found, len(gold)) == pytest.approx(zou, rel=1e-9)
    assert fisher_interval(found[1], len(gold)) == pytest.approx(fisher, rel=1e-9)


@pytest.mark.parametrize(("table", "rs", "williams", "steiger", "zou", "fisher"), CORRELATIONS)
def test_two_correlations_through_compare(
    tmp_path: Path,
    table: tuple[Sequence[float], ...],
    rs: tuple[float, float, float],
    williams: tuple[float, float],
    steiger: float,
    zou: tuple[float, float],
    fisher: tuple[float, float],
) -> None:
    files = [
        write_csv(tmp_path / f"{i}.csv", ["id", "prediction" if i else "label"], list(enumerate(values)))
        for i, values in enumerate(table)
    ]
    document = compare_files(files[0], files[1:2], files[2:], "pearson")
    lines = {line["method"]: line for line in [document, *document["sensitivity"]]}
    assert (document["a"], document["b"]) == pytest.approx(rs[:2], rel=1e-9)
    assert lines["williams"]["p"] == pytest.approx(williams[1], rel=1e-9)
    assert lines["steiger"]["statistic"] == pytest.approx(steiger, rel=1e-9)
    assert lines["zou"]["ci95"] == pytest.approx(zou, rel=1e-9)


def test_pseudo_values_are_r_plus_its_influence() -> None:
    """empinf(type = "inf") of boot, a numerical derivative of cov.wt(cor = TRUE), on attitude"""
    gold, a, b = ATTITUDE
    of_a, of_b = (pseudo_values(x, gold) - pearson(x, gold) for x in (a, b))
    assert of_a[:4] == pytest.approx(
        [0.21948443063, 0.00313868930846, -0.00646972475593, 0.0142378775436], abs=1e-6
    )
    assert of_b[:4] == pytest.approx(
        [0.995159255002, 0.00906504871168, 0.120395726722, 0.0122267529434], abs=1e-6
    )
    assert (of_b - of_a).std(ddof=1) / np.sqrt(30) == pytest.approx(0.111844012466, rel=1e-6)


# Seeds and items

# V_seed, V_item and V_int from anova(lm(d ~ seed + item)); V, by Hillis 2007 from the mean covariance of two seeds over
# items, is the same. Standard deviations of seed, item and what is left: those of lme4 1.1-31, lmer(d ~ 1 + (1 | seed) +
# (1 | item)), where none of them is 0.
SEEDS_AND_ITEMS = [
    (SEEDS_BY_ITEMS, 0.177083333333, 0.124600054619, 13.3019390582, 0.178272678107,
     (-0.0914789230516, 0.445645589718), 0.387755102041, (0.125830573921, 0.27575653513, 0.13346347815)),
    (RIGHT_BY_SEED, 0.3, 0.1186342028, 213.925925926, 0.0121671403343,
     (0.066158326851, 0.533841673149), 0.118421052632, (0, 0.352241499648, 0.463481191436)),
]  # fmt: skip


@pytest.mark.parametrize(("d", "delta", "se", "df", "p", "ci95", "share", "noise"), SEEDS_AND_ITEMS)
def test_seeds_by_items(
    d: list[list[float]],
    delta: float,
    se: float,
    df: float,
    p: float,
    ci95: tuple[float, float],
    share: float,
    noise: tuple[float, float, float],
) -> None:
    found = mrmc(d)
    assert (found.delta, found.se, found.df, found.p) == pytest.approx((delta, se, df, p), rel=1e-9)
    assert found.ci95 == pytest.approx(ci95, rel=1e-9)
    assert found.seed_share == pytest.approx(share, rel=1e-9)
    assert (found.sigma_seed, found.sigma_item, found.sigma_seed_item) == pytest.approx(noise, rel=1e-9)


def test_seeds_by_items_through_compare(tmp_path: Path) -> None:
    """V as above; t.test(rowMeans(d))"""
    d = np.array(RIGHT_BY_SEED)
    sides = {
        side: [
            write_csv(tmp_path / f"{side}{seed}.csv", ["id", "correct"], list(enumerate(row.astype(int))))
            for seed, row in enumerate(right)
        ]
        for side, right in (("a", d == -1), ("b", d == 1))
    }
    document = compare_files(None, sides["a"], sides["b"], None, correct=True)
    by_seed = next(line for line in document["sensitivity"] if line["method"] == "paired_t")
    assert (document["delta"], document["se"]) == pytest.approx((0.3, 0.1186342028), rel=1e-9)
    assert (by_seed["statistic"], by_seed["p"]) == pytest.approx((7.34846922835, 0.00520785894466), rel=1e-9)


# Power and optimism


@pytest.mark.parametrize(
    ("pairs", "delta"),
    [
        (2, 11.5498884359),
        (3, 3.26404354982),
        (5, 1.68199728221),
        (10, 0.996002254307),
        (20, 0.660442409819),
    ],
)
def test_detectable_effect_of_pairs(pairs: int, delta: float) -> None:
    """power.t.test(n, sd = 1, power = .8, type = "paired", tol = 1e-12)$delta"""
    assert mde_paired(1.0, pairs) == pytest.approx(delta, rel=SAME)


@pytest.mark.parametrize(
    ("df", "alpha", "power", "effect"),
    [
        (4, 0.01, 0.8, 5.87856404202),
        (9, 0.05, 0.9, 3.6510554666),
        (2.5, 0.05, 0.8, 4.74103806879),
        (30, 0.005, 0.8, 3.9075379683),
    ],
)
def test_detectable_effect_at_other_levels(df: float, alpha: float, power: float, effect: float) -> None:
    """uniroot(function(d) pt(qt(1 - alpha / 2, df), df, d, lower.tail = FALSE) - power, c(0, 37))"""
    assert mde(1.0, df, power, alpha) == pytest.approx(effect, rel=SAME)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (3, 0.846284375322),
        (4, 1.029375373),
        (8, 1.42360030605),
        (20, 1.8674750598),
        (50, 2.24907362939),
        (200, 2.74604244745),
        (1000, 3.24143576913),
    ],
)
def test_expected_maximum_of_normals(k: int, expected: float) -> None:
    """integrate(function(x) x * k * dnorm(x) * pnorm(x)^(k - 1), -Inf, Inf, rel.tol = 1e-12)"""
    assert expected_best(k) == pytest.approx(expected, rel=1e-9)
