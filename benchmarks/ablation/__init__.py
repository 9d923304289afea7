"""The papers' tables: rows of runs that differ in one thing, trained, measured and put beside what was printed.

In: an ablation recipe (`recipe.load_ablation`): base recipes, teachers, rows as changes to them, and a ``scale`` of
data, sizes and epochs. Out: run folders, a file of figures for each run, ``table.json`` and ``table.md``; all that is
finished when the command is stopped is used when it is called again. ``plan`` resolves every run before the first one
trains, ``runs`` trains and measures one, ``order`` compares the order of the rows with the paper's, ``table`` shows it,
``recorded`` shows what its records say. Start reading at `run.run_ablation`.
"""

# Nothing of `run`: tables of records are made where no PyTorch is installed, too.
from personsearch.benchmarks.ablation.recipe import AblationRecipe, load_ablation

__all__ = ["AblationRecipe", "load_ablation"]
