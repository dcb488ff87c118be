"""What finished trials say: importance, bounds, regions, budget, curves, refined ranges."""

from jaxopt_lab.analysis.boundaries import Finding, boundary_findings
from jaxopt_lab.analysis.buckets import Bucket, Isolated, infeasible_by_region, isolation
from jaxopt_lab.analysis.budget import BestOfK, best_of_k
from jaxopt_lab.analysis.curve_findings import CurveFinding, curve_findings, readable
from jaxopt_lab.analysis.importance import Importance, anova, importance
from jaxopt_lab.analysis.learned import Learned, learned
from jaxopt_lab.analysis.refinement import refine
from jaxopt_lab.analysis.summary import summary

__all__ = [
    "BestOfK",
    "Bucket",
    "CurveFinding",
    "Finding",
    "Importance",
    "Isolated",
    "Learned",
    "anova",
    "best_of_k",
    "boundary_findings",
    "curve_findings",
    "importance",
    "infeasible_by_region",
    "isolation",
    "learned",
    "readable",
    "refine",
    "summary",
]
