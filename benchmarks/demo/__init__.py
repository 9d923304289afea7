"""The whole road once, small: ``personsearch demo``.

In: `DemoSettings`. Out: a folder with one sub-folder a stage, ``report.html`` and ``figures.json``. ``run`` is the
order of the stages, ``stages`` one function each, ``checks`` what the figures must show, ``stream_truth`` whether
the query was found where the ground truth says, ``ranking`` and ``story`` what the report shows. Every stage calls
the same function as its own command does; nothing here trains, exports or measures by itself.
"""

from personsearch.benchmarks.demo.run import DemoOutcome, run_demo
from personsearch.benchmarks.demo.settings import DemoSettings, standard_settings

__all__ = ["DemoOutcome", "DemoSettings", "run_demo", "standard_settings"]
