"""The publications that reports, `ablate compare` and the page for reviewers cite."""

from collections.abc import Iterable

# A text cites one if it contains the first author and the year.
REFERENCES = (
    "Agarwal, Schwarzer, Castro, Courville and Bellemare (2021). Deep reinforcement learning at the edge of the "
    "statistical precipice. Advances in Neural Information Processing Systems 34",
    "Bartlett (1937). Properties of sufficiency and statistical tests. Proceedings of the Royal Society A 160, "
    "268-282",
    "Benjamini and Hochberg (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57, 289-300",
    "Bonett and Price (2012). Adjusted Wald confidence interval for a difference of binomial proportions based on "
    "paired data. Journal of Educational and Behavioral Statistics 37, 479-488",
    "Bretz, Maurer, Brannath and Posch (2009). A graphical approach to sequentially rejective multiple test "
    "procedures. Statistics in Medicine 28, 586-604",
    "Browne (1995). On the use of a pilot sample for sample size determination. Statistics in Medicine 14, "
    "1933-1940",
    "Cochran and Cox (1957). Experimental Designs, 2nd edition. Wiley",
    "Devlin, Gnanadesikan and Kettenring (1975). Robust estimation and outlier detection with correlation "
    "coefficients. Biometrika 62, 531-545",
    "Efron (1979). Bootstrap methods: another look at the jackknife. Annals of Statistics 7, 1-26",
    "Fedorov (1972). Theory of Optimal Experiments. Academic Press",
    "Fisher (1922). On the interpretation of χ² from contingency tables, and the calculation of P. Journal of the "
    "Royal Statistical Society 85, 87-94",
    "Fisher (1935a). The fiducial argument in statistical inference. Annals of Eugenics 6, 391-398",
    "Fisher (1935b). The Design of Experiments. Oliver and Boyd",
    "Hampel (1974). The influence curve and its role in robust estimation. Journal of the American Statistical "
    "Association 69, 383-393",
    "Hillis (2007). A comparison of denominator degrees of freedom methods for multiple observer ROC analysis. "
    "Statistics in Medicine 26, 596-619",
    "Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, "
    "65-70",
    "Horowitz and Manski (2000). Nonparametric analysis of randomized experiments with missing covariate and outcome "
    "data. Journal of the American Statistical Association 95, 77-84",
    "Jennison and Turnbull (2000). Group Sequential Methods with Applications to Clinical Trials. Chapman and "
    "Hall/CRC",
    "Kish (1965). Survey Sampling. Wiley",
    "Lan and DeMets (1983). Discrete sequential boundaries for clinical trials. Biometrika 70, 659-663",
    "Lancaster (1961). Significance tests in discrete distributions. Journal of the American Statistical Association "
    "56, 223-234",
    "Lenth (1989). Quick and easy analysis of unreplicated factorials. Technometrics 31, 469-473",
    "Maurer and Bretz (2013). Multiple testing in group sequential trials using graphical approaches. Statistics "
    "in Biopharmaceutical Research 5, 311-320",
    "McNemar (1947). Note on the sampling error of the difference between correlated proportions or percentages. "
    "Psychometrika 12, 153-157",
    "Montgomery (2012). Design and Analysis of Experiments, 8th edition. Wiley",
    "Obuchowski and Rockette (1995). Hypothesis testing of diagnostic accuracy for multiple readers and multiple "
    "tests: an ANOVA approach with dependent observations. Communications in Statistics: Simulation and "
    "Computation 24, 285-308",
    "Robinson (1976). Properties of Student's t and of the Behrens-Fisher solution to the two means problem. "
    "Annals of Statistics 4, 963-971",
    "Satterthwaite (1946). An approximate distribution of estimates of variance components. Biometrics Bulletin "
    "2, 110-114",
    "Schuirmann (1987). A comparison of the two one-sided tests procedure and the power approach for assessing "
    "the equivalence of average bioavailability. Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680",
    "Smyth (2004). Linear models and empirical Bayes methods for assessing differential expression in microarray "
    "experiments. Statistical Applications in Genetics and Molecular Biology 3, article 3",
    "Spiegelhalter, Freedman and Blackburn (1986). Monitoring clinical trials: conditional or predictive power? "
    "Controlled Clinical Trials 7, 8-17",
    "Steiger (1980). Tests for comparing elements of a correlation matrix. Psychological Bulletin 87, 245-251",
    "Student (1908). The probable error of a mean. Biometrika 6, 1-25",
    "Tippett (1925). On the extreme individuals and the range of samples taken from a normal population. "
    "Biometrika 17, 364-387",
    "Williams (1959). The comparison of regression variables. Journal of the Royal Statistical Society B 21, "
    "396-399",
    "Zou (2007). Toward using confidence intervals to compare correlations. Psychological Methods 12, 399-413",
)


def author_and_year(publication: str) -> tuple[str, str]:
    """Return what a text that cites it contains: `("Lan", "1983")`."""
    authors, _, rest = publication.partition(" (")
    return authors.partition(" ")[0].rstrip(","), rest.partition(")")[0]


def cited(texts: Iterable[str]) -> list[str]:
    """Return the publications that some text cites."""
    known = list(texts)
    return [
        publication
        for publication in REFERENCES
        if any(all(word in text for word in author_and_year(publication)) for text in known)
    ]
