"""From an ablation recipe to its runs, every one of them resolved before the first one trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personsearch.benchmarks.ablation.recipe import AblationRecipe, Row, RunSpec, TeacherFile, merged, read_mapping
from personsearch.core.errors import InputError
from personsearch.core.files import expand_path
from personsearch.core.recipe import validate
from personsearch.core.recipes import DistillRecipe, TrainRecipe
from personsearch.distill.run import check_detection, check_settings
from personsearch.train.run_folder import CHECKPOINT_NAME

KNOWLEDGE = ("hierarchical", "detection", "lookup_table", "crops")


@dataclass(frozen=True)
class PlannedRun:
    """One training run.

    Attributes:
        name: of teacher or row.
        folder: where it trains.
        recipe: resolved; its teachers' paths are those of `teachers` and `files`.
        teachers: runs that have to be finished first: those that teach, and the one whose weights it starts from.
        files: teachers that are there already.
    """

    name: str
    folder: Path
    recipe: TrainRecipe
    teachers: tuple[PlannedRun, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """What messages and files of figures call the run."""
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT_NAME


@dataclass(frozen=True)
class Plan:
    """The rows of a table with a run for each seed.

    Attributes:
        data_root: the data set; made first where the recipe generates one.
        rows: in the table's order.
        runs: of every row, by name, one for each of `seeds`.
        seeds: of the rows.
    """

    recipe: AblationRecipe
    data_root: Path
    rows: tuple[Row, ...]
    runs: dict[str, tuple[PlannedRun, ...]]
    seeds: tuple[int, ...]

    def in_order(self) -> list[PlannedRun]:
        """Every run once: all rows of the first seed with the teachers that they need, then those of the next."""
        ordered: dict[Path, PlannedRun] = {}

        def add(run: PlannedRun) -> None:
            for teacher in run.teachers:
                add(teacher)
            ordered.setdefault(run.folder, run)

        for number in range(len(self.seeds)):
            for row in self.rows:
                add(self.runs[row.name][number])
        return list(ordered.values())


@dataclass
class _Resolver:
    recipe: AblationRecipe
    out: Path
    where: str
    bases: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[Path, PlannedRun] = field(default_factory=dict)

    @property
    def data_root(self) -> Path:
        root = self.recipe.scale.data.root
        return self.out / "data" if root is None else Path(root)

    def run(self, name: str, spec: RunSpec, seed: int, below: tuple[str, ...] = ()) -> PlannedRun:
        place = f"{self.where}, `{name}`"
        if name in below:
            raise InputError("teaches itself", where=place, expected="teachers without a circle")
        folder = self.out / "runs" / f"{name}-seed{seed}"
        if folder in self.made:
            return self.made[folder]
        teachers: dict[Path, PlannedRun] = {}  # one may teach and lend its weights
        files: list[Path] = []

        def checkpoint(teacher: str) -> Path:
            found = self._teacher(teacher, place)
            if isinstance(found, TeacherFile):
                files.append(Path(found.file))
                return files[-1]
            run = self.run(teacher, found, self.recipe.teacher_seed, (*below, name))
            return teachers.setdefault(run.folder, run).checkpoint

        paths: dict[str, Path] = {key: checkpoint(teacher) for key, teacher in spec.teachers.items()}
        starts_from = spec.starts_from or self.recipe.scale.starts.get(spec.base)
        start = None if starts_from is None else checkpoint(starts_from)
        recipe = self._recipe(name, spec, seed, paths, start, place)
        self.made[folder] = PlannedRun(name, folder, recipe, tuple(teachers.values()), tuple(files))
        return self.made[folder]

    def _teacher(self, name: str, place: str) -> RunSpec | TeacherFile:
        named: dict[str, RunSpec | TeacherFile] = {**self.recipe.teachers}
        named |= {row.name: row for row in self.recipe.rows}
        if name not in named:
            raise InputError(f"no teacher `{name}`", where=place, expected=f"one of {', '.join(named)}")
        return named[name]

    def _recipe(
        self, name: str, spec: RunSpec, seed: int, teachers: dict[str, Path], start: Path | None, place: str
    ) -> TrainRecipe:
        scale = self.recipe.scale
        content = merged(merged(self._base(spec.base, place), scale.every), scale.of.get(spec.base, {}))
        if not teachers:
            content = {key: value for key, value in content.items() if key not in ("teacher", *KNOWLEDGE)}
        content = merged(content, spec.changes)
        fixed: dict[str, Any] = {"name": f"{self.recipe.name}-{name}", "seed": seed}
        fixed["data"] = {"root": str(self.data_root), "split": scale.data.train}
        if start is not None:
            fixed["init_from"] = str(start)
        for key, path in teachers.items():
            block, _, leaf = key.rpartition(".")
            fixed = merged(fixed, {block: {leaf: str(path)}} if block else {leaf: str(path)})
        content = merged(content, fixed)
        recipe = validate(DistillRecipe if teachers else TrainRecipe, content, where=place)
        if recipe.init_from is not None and start is None and "init_from" not in spec.changes:
            raise InputError(
                f"`init_from` is {recipe.init_from}, of the base recipe",
                where=place,
                expected="a teacher or row of this table under `starts_from`, or `init_from: null` under `changes`",
            )
        if isinstance(recipe, DistillRecipe):
            _check_knowledge(recipe, teachers, place)
        return recipe

    def _base(self, name: str, place: str) -> dict[str, Any]:
        if name not in self.recipe.bases:
            raise InputError(f"no base `{name}`", where=place, expected=f"one of {', '.join(self.recipe.bases)}")
        if name not in self.bases:
            self.bases[name] = read_mapping(Path(self.recipe.bases[name]))
        return self.bases[name]


def plan_ablation(
    recipe: AblationRecipe,
    out: Path,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    where: str = "recipe",
    teachers_there: bool = True,
) -> Plan:
    """Resolves every run of a table and of its teachers; trains nothing.

    Args:
        recipe: the table.
        out: folder of the runs.
        rows: names of the rows wanted; none for all.
        seeds: of the rows; none for the recipe's.
        where: the recipe's file, for messages.
        teachers_there: whether teachers that are files have to be there.

    Raises:
        InputError: an unknown row, base or teacher, a missing teacher file, a circle of teachers, a key that the
            base recipe does not have, or a row that distils nothing.
    """
    known = {row.name: row for row in recipe.rows}
    for name in rows or ():
        if name not in known:
            raise InputError(f"no row `{name}`", where=where, expected=f"one of {', '.join(known)}")
    chosen = tuple(row for row in recipe.rows if not rows or row.name in rows)
    used = tuple(dict.fromkeys(recipe.seeds if seeds is None else seeds))
    resolver = _Resolver(recipe, out, where)
    runs = {row.name: tuple(resolver.run(row.name, row, seed) for seed in used) for row in chosen}
    plan = Plan(recipe, resolver.data_root, chosen, runs, used)
    for run in plan.in_order() if teachers_there else ():
        for path in run.files:
            if not expand_path(str(path), where=f"{where}, `{run.name}`").is_file():
                expected = "a checkpoint, a look-up table or a re-ID network"
                raise InputError(f"teacher of `{run.name}` is missing", where=str(path), expected=expected)
    return plan


def _check_knowledge(recipe: DistillRecipe, teachers: dict[str, Path], place: str) -> None:
    """Refuses a row that distils nothing, and one that learns from a file of the base recipe's own."""
    try:
        if recipe.hierarchical is not None:
            check_settings(recipe.hierarchical)
        if recipe.detection is not None:
            check_detection(recipe.detection)
    except InputError as error:
        raise InputError(str(error), where=place) from None
    for key, block in (("detection.teacher", recipe.detection), ("lookup_table.teacher", recipe.lookup_table)):
        if block is not None and block.teacher is not None and key not in teachers:
            raise InputError(
                f"`{key}` is {block.teacher}, of the base recipe",
                where=place,
                expected=f"a teacher of this table for `{key}` under `teachers`",
            )
