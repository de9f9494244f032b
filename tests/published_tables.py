"""Published data sets with published answers: the tests of `stats` and of `analyze` share them."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

# NIST StRD, one-way analysis of variance. https://www.itl.nist.gov/div898/strd/anova/anova.html
SIRSTV = {
    "1": "196.3052 196.1240 196.1890 196.2569 196.3403",
    "2": "196.3042 196.3825 196.1669 196.3257 196.0422",
    "3": "196.1303 196.2005 196.2889 196.0343 196.1811",
    "4": "196.2795 196.1748 196.1494 196.1485 195.9885",
    "5": "196.2119 196.1051 196.1850 196.0052 196.2090",
}
ATMWTAG = {  # all but the last four digits: 107.868
    "1": "1568 1465 1572 1785 1446 1903 1526 1494 1616 1587 1519 1486 "
    "1419 1569 1508 1672 1385 1518 1662 1424 1360 1333 1610 1477",
    "2": "1079 1344 1513 1197 1604 1385 1642 1365 1151 1082 1517 1448 "
    "1198 1482 1334 1609 1101 1512 1469 1360 1254 1261 1450 1368",
}

# Montgomery, Design and Analysis of Experiments (8th ed.), tables 6.10, 6.4, 4.3 and 5.1.
FILTRATION = [45, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96]  # 2^4, A changes fastest
FILTRATION_EFFECTS = {
    "A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625, "A:B": 0.125, "A:C": -18.125, "A:D": 16.625, "B:C": 2.375,
    "B:D": -0.375, "C:D": -1.125, "A:B:C": 1.875, "A:B:D": 4.125, "A:C:D": -1.625, "B:C:D": -2.625, "A:B:C:D": 1.375,
}  # fmt: skip
PLASMA_ETCH = [  # 2^3 twice, A changes fastest
    (550, 604), (669, 650), (633, 601), (642, 635), (1037, 1052), (749, 868), (1075, 1063), (729, 860)
]  # fmt: skip
VASCULAR_GRAFT = {  # pressure -> six batches of resin (blocks)
    "8500": [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
    "8700": [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
    "8900": [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
    "9100": [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
}
BATTERY_LIFE = {  # (material, temperature) -> four batteries
    ("1", "15"): [130, 155, 74, 180], ("1", "70"): [34, 40, 80, 75], ("1", "125"): [20, 70, 82, 58],
    ("2", "15"): [150, 188, 159, 126], ("2", "70"): [136, 122, 106, 115], ("2", "125"): [25, 70, 58, 45],
    ("3", "15"): [138, 110, 168, 160], ("3", "70"): [174, 120, 150, 139], ("3", "125"): [96, 104, 82, 60],
}  # fmt: skip

ROCKET_PROPELLANT = [  # table 4.9: a Latin square, batches by operators, formulations as letters
    ("ABCDE", [24, 20, 19, 24, 24]), ("BCDEA", [17, 24, 30, 27, 36]), ("CDEAB", [18, 38, 26, 27, 21]),
    ("DEABC", [26, 31, 26, 23, 22]), ("EABCD", [22, 30, 20, 29, 31]),
]  # fmt: skip
# Crampton 1947; R's ToothGrowth: (supplement, dose) -> length of ten odontoblasts.
TOOTH_GROWTH = {
    ("VC", "0.5"): [4.2, 11.5, 7.3, 5.8, 6.4, 10, 11.2, 11.2, 5.2, 7],
    ("VC", "1"): [16.5, 16.5, 15.2, 17.3, 22.5, 17.3, 13.6, 14.5, 18.8, 15.5],
    ("VC", "2"): [23.6, 18.5, 33.9, 25.5, 26.4, 32.5, 26.7, 21.5, 23.3, 29.5],
    ("OJ", "0.5"): [15.2, 21.5, 17.6, 9.7, 14.5, 10, 8.2, 9.4, 16.5, 9.7],
    ("OJ", "1"): [19.7, 23.3, 23.6, 26.4, 20, 25.2, 25.8, 21.2, 14.5, 27.3],
    ("OJ", "2"): [25.5, 26.4, 22.4, 24.5, 24.8, 30.9, 26.4, 27.3, 29.4, 23],
}
# Box, Hunter & Hunter, ch. 3: wear of two soles on the feet of ten boys.
BOYS_SHOES = {
    "A": [13.2, 8.2, 10.9, 14.3, 10.7, 6.6, 9.5, 10.8, 8.8, 13.3],
    "B": [14.0, 8.8, 11.2, 14.2, 11.8, 6.4, 9.8, 11.3, 9.3, 13.6],
}
# Agresti, Categorical Data Analysis, table 10.1: a prime minister's ratings in two surveys of the same people.
PRIME_MINISTER = {("yes", "yes"): 794, ("yes", "no"): 150, ("no", "yes"): 86, ("no", "no"): 570}

# Kutner 1974, Am. Stat. 28, 98-100; SAS/STAT User's Guide, GLM, "Unbalanced ANOVA for Two-Way Design with Interaction".
DRUG_DISEASE = {  # (drug, disease) -> change of blood pressure
    ("1", "1"): [42, 44, 36, 13, 19, 22], ("1", "2"): [33, 26, 33, 21], ("1", "3"): [31, -3, 25, 25, 24],
    ("2", "1"): [28, 23, 34, 42, 13], ("2", "2"): [34, 33, 31, 36], ("2", "3"): [3, 26, 28, 32, 4, 16],
    ("3", "1"): [1, 29, 19], ("3", "2"): [11, 9, 7, 1, -6], ("3", "3"): [21, 1, 9, 3],
    ("4", "1"): [24, 9, 22, -2, 15], ("4", "2"): [27, 12, 12, -5, 16, 15], ("4", "3"): [22, 7, 25, 5, 12],
}  # fmt: skip
DRUG_DISEASE_SS = {
    "I": {"drug": 3133.238506, "disease": 418.833741, "drug:disease": 707.266259},
    "II": {"drug": 3063.432863, "disease": 418.833741, "drug:disease": 707.266259},
    "III": {"drug": 2997.471860, "disease": 415.873046, "drug:disease": 707.266259},
}

# Yates 1937, peas; Venables & Ripley, Modern Applied Statistics with S, § 6.7. Six blocks of four, NPK confounded with them.
NPK = [  # (block, N, P, K, yield)
    (1, 0, 1, 1, 49.5), (1, 1, 1, 0, 62.8), (1, 0, 0, 0, 46.8), (1, 1, 0, 1, 57.0),
    (2, 1, 0, 0, 59.8), (2, 1, 1, 1, 58.5), (2, 0, 0, 1, 55.5), (2, 0, 1, 0, 56.0),
    (3, 0, 1, 0, 62.8), (3, 1, 1, 1, 55.8), (3, 1, 0, 0, 69.5), (3, 0, 0, 1, 55.0),
    (4, 1, 0, 0, 62.0), (4, 1, 1, 1, 48.8), (4, 0, 0, 1, 45.5), (4, 0, 1, 0, 44.2),
    (5, 1, 1, 0, 52.0), (5, 0, 0, 0, 51.5), (5, 1, 0, 1, 49.8), (5, 0, 1, 1, 48.8),
    (6, 1, 0, 1, 57.2), (6, 1, 1, 0, 59.0), (6, 0, 1, 1, 53.2), (6, 0, 0, 0, 56.0),
]  # fmt: skip
# Box, Hunter & Hunter, Statistics for Experimenters, ch. 12: seconds up a hill on a bicycle, seven factors in eight runs.
BICYCLE = [69, 52, 60, 83, 71, 50, 59, 88]  # A changes fastest; D = AB, E = AC, F = BC, G = ABC
BICYCLE_EFFECTS = {"A": 3.5, "B": 12.0, "C": 1.0, "D": 22.5, "E": 0.5, "F": 1.0, "G": 2.5}
# Montgomery, table 14.3: purity, coded, of four batches within each of three suppliers.
PURITY = {
    "1": [(1, -1, 0), (-2, -3, -4), (-2, 0, 1), (1, 4, 0)],
    "2": [(1, -2, -3), (0, 4, 2), (-1, 0, -2), (0, 3, 2)],
    "3": [(2, 4, 0), (-2, 0, 2), (1, -1, 2), (3, 2, 1)],
}

# Darwin 1876, crossed less self-fertilised maize, in eighths of an inch (Fisher 1935, § 17).
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Student 1908: hours of sleep gained, second drug less first.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
# Benjamini & Hochberg 1995, § 4.1: fifteen hypotheses on thrombolysis.
BH_1995 = [
    .0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719, .6528, .7590, 1.0
]  # fmt: skip


def simon_lesage(constant: int, replicates: int) -> Iterator[tuple[str, str]]:
    """Yield (treatment, response) of NIST's SmLs sets: `constant` and .1 above and below nine treatments' tenths."""
    for treatment in range(1, 10):
        tenths = 4 if treatment == 1 else 3 if treatment % 2 == 0 else 5
        for replicate in range(replicates):
            step = 0 if replicate == 0 else -1 if replicate % 2 else 1
            yield str(treatment), f"{constant}.{tenths + step}"


def two_level(names: str) -> list[tuple[str, ...]]:
    """Return the runs of a full two-level design in standard order: the first factor changes fastest."""
    return [tuple(reversed(run)) for run in itertools.product("-+", repeat=len(names))]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    """Write a plain CSV and return its path."""
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n", encoding="utf-8")
    return path
