"""What finished trials say: importance, bounds, infeasible regions, budget, refined ranges."""

from jaxopt_lab.analysis.boundaries import Finding, boundary_findings
from jaxopt_lab.analysis.buckets import Bucket, Isolated, infeasible_by_region, isolation
from jaxopt_lab.analysis.budget import BestOfK, best_of_k
from jaxopt_lab.analysis.importance import Importance, anova, importance
from jaxopt_lab.analysis.refinement import refine
from jaxopt_lab.analysis.summary import summary

__all__ = [
    "BestOfK",
    "Bucket",
    "Finding",
    "Importance",
    "Isolated",
    "anova",
    "best_of_k",
    "boundary_findings",
    "importance",
    "infeasible_by_region",
    "isolation",
    "refine",
    "summary",
]
