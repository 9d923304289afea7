"""Why a system's search figures are what they are: every query's errors, their costs, pictures, size of the gallery.

In: what a system found in a split (`Collected`) and the split. Out: `Diagnosis`, plain values; ``writing`` puts it in
a folder as JSON, pictures and one page. The kinds of errors are those of `personsearch.evaluation.diagnosis`. Start
reading at `diagnose`.
"""

from personsearch.benchmarks.diagnosis.gallery_size import GalleryCurve, gallery_curve
from personsearch.benchmarks.diagnosis.records import Diagnosis, DiagnosisSummary, QueryRecord
from personsearch.benchmarks.diagnosis.run import diagnose
from personsearch.benchmarks.diagnosis.writing import write_diagnosis

__all__ = [
    "Diagnosis",
    "DiagnosisSummary",
    "GalleryCurve",
    "QueryRecord",
    "diagnose",
    "gallery_curve",
    "write_diagnosis",
]
