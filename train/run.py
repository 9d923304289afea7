"""The training stage: from a recipe to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from personsearch.core.errors import InputError
from personsearch.core.files import sha256_file
from personsearch.core.manifest import TrainingData
from personsearch.core.recipes import FasterRCNNRecipe, TrainRecipe
from personsearch.data import SearchDataset, open_dataset, person_names_of
from personsearch.data.hold_out import RemainingImages, count_shared_files, hold_out
from personsearch.data.loader import TrainingLoader
from personsearch.data.mixed import MixedDataset
from personsearch.models import SearchModel, build_model
from personsearch.models.checkpoint import Checkpoint, load_model, read_checkpoint
from personsearch.train.checkpoint import RunIdentity, load_matching_weights
from personsearch.train.held_out import check_held_out
from personsearch.train.loop import fit, open_fabric
from personsearch.train.memory import check_run_memory
from personsearch.train.run_folder import CHECKPOINT_NAME, open_run_folder
from personsearch.train.step import seed_torch
from personsearch.train.task import SearchTask


def run_training(recipe: TrainRecipe, run_dir: Path, *, resume: bool = False) -> Path:
    """Trains the network of ``recipe`` from labels.

    Args:
        recipe: the run.
        run_dir: the run folder (docs/conventions.md).
        resume: continue the run that the folder holds, if any.

    Returns:
        The checkpoint's path.

    Raises:
        InputError: the folder holds another run, or the recipe asks for what is not there.
        TrainingDiverged: a loss, the gradient or the weights are no longer finite.
    """
    saved = open_run_folder(run_dir, recipe, resume=resume)
    dataset = open_training_set(recipe)
    fabric = open_fabric(recipe.precision)
    check_batch(recipe, len(dataset), fabric.world_size)
    check_run_memory(recipe, dataset.person_count, fabric)
    model, facts = start_model(recipe, dataset, run_dir, saved)
    loader = training_batches(recipe, dataset, fabric.global_rank, fabric.world_size)
    facts["loader"] = loader.record  # grows with the run; each epoch's record shows it as it is then
    identity = RunIdentity(recipe, dataset.person_count, training_data(dataset), person_names_of(dataset))
    content = saved.content if saved else None
    return fit(SearchTask(model, recipe.loss_weights), loader, identity, run_dir, fabric, content=content, facts=facts)


def open_training_set(recipe: TrainRecipe) -> SearchDataset:
    """The data set of a recipe without the images that it holds out, with the boxes that it mixes in.

    Raises:
        InputError: there is none, no frame with boxes to mix in, one of these is held out, nothing can be held out of
            this data set, or nobody in it has an identity where the network learns identities.
    """
    whole = dataset = open_dataset(Path(recipe.data.root), recipe.data.split)
    held_out = None
    if recipe.data.hold_out:
        skip_bad = recipe.data.skip_bad
        held_out = hold_out(whole, recipe.data.hold_out, recipe.data.hold_out_seed, skip_bad=skip_bad)
        dataset = RemainingImages(whole, held_out, skip_bad=skip_bad)
    if dataset.person_count == 0 and not isinstance(recipe.model, FasterRCNNRecipe):
        raise InputError(
            f"split `{recipe.data.split}` labels no identity{' that is not held out' if whole.person_count else ''}",
            where=recipe.data.root,
            expected="at least one person_id from 0",
        )
    if recipe.data.boxes is None:
        return dataset
    boxes = open_dataset(Path(recipe.data.boxes), "train")
    if len(boxes) == 0:
        raise InputError("has no images", where=recipe.data.boxes, expected="frames with boxes to mix in")
    if held_out is not None and (shared := count_shared_files(whole, held_out.images, boxes)):
        raise InputError(
            f"shows {shared} of the {len(held_out.images)} images that `data.hold_out` leaves out",
            where=f"data.boxes {recipe.data.boxes}",
            remedy="label other frames, or leave out `data.hold_out`",
        )
    return MixedDataset(dataset, [boxes], [recipe.data.boxes_share], recipe.seed)


def training_data(dataset: SearchDataset) -> tuple[TrainingData, ...]:
    """What a checkpoint and a manifest say about the data; of a mix only the first part's identities are learnt."""
    if not isinstance(dataset, MixedDataset):
        held_out = dataset.held_out if isinstance(dataset, RemainingImages) else None
        entry = TrainingData(name=dataset.name, terms=dataset.terms, identities=dataset.person_count, held_out=held_out)
        return (entry,)
    first, *others = dataset.parts
    entries = list(training_data(first))
    for other in others:
        unnamed = [entry.model_copy(update={"identities": 0}) for entry in training_data(other)]
        # A composite specification's own frames go by its name and terms.
        known = {(entry.name, entry.terms) for entry in entries}
        entries += [entry for entry in unnamed if (entry.name, entry.terms) not in known]
    return tuple(entries)


def start_model(
    recipe: TrainRecipe, dataset: SearchDataset, run_dir: Path, saved: Checkpoint | None
) -> tuple[SearchModel, dict[str, Any]]:
    """The network as the run starts or continues, and facts about it for the run's record.

    Raises:
        InputError: weights to start from are missing, do not fit or have seen what is held out, or the saved run had
            another data set.
    """
    facts: dict[str, Any] = {}
    person_count, data = dataset.person_count, training_data(dataset)
    if saved is not None:
        if saved.person_count != person_count:
            raise InputError(
                f"was trained with {saved.person_count} identities, the data set has {person_count}",
                where=str(run_dir / CHECKPOINT_NAME),
                remedy="restore the data set or start in another --out",
            )
        if saved.data[0].held_out != data[0].held_out:
            raise InputError(
                "held out other images, or images with other labels, than the data set has now",
                where=str(run_dir / CHECKPOINT_NAME),
                remedy="restore the data set or start in another --out",
            )
        model, _ = load_model(run_dir / CHECKPOINT_NAME)
    else:
        if (part := data[0].held_out) is not None:
            images = part.images + len(dataset)
            note = f"held out by {part.unit}: {part.images} of {images} images; {person_count} identities are left"
            Console(stderr=True, soft_wrap=True).print(note, markup=False, highlight=False)
        seed_torch(recipe.seed, "weights")
        model = build_model(recipe.model, recipe.preprocess, person_count)
        if recipe.init_from is not None:
            origin = Path(recipe.init_from)
            check_held_out(read_checkpoint(origin), data[0], recipe, where=f"init_from {origin}", same=False)
            transfer = load_matching_weights(model, origin)
            facts["init_from"] = transfer.describe() or "every weight taken"
            facts["init_from_sha256"] = sha256_file(origin)
            note = f"weights from {recipe.init_from}: {facts['init_from']}"
            Console(stderr=True, soft_wrap=True).print(note, markup=False, highlight=False)
    facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return model, facts


def check_batch(recipe: TrainRecipe, dataset_images: int, world_size: int) -> int | None:
    """Refuses a step of more images than an epoch has.

    Args:
        recipe: the run.
        dataset_images: images in the data set.
        world_size: processes.

    Returns:
        The epoch's images, of all processes together; none for the whole set, of one process. What the processes
        cannot share evenly is left to the next epoch.

    Raises:
        InputError: it takes more.
    """
    epoch_images = recipe.epoch_images
    if world_size > 1:
        part = world_size * recipe.data.images_per_identity
        epoch_images = (epoch_images or dataset_images) // part * part
    wanted = recipe.batch_images * recipe.accumulate * world_size
    there = dataset_images if epoch_images is None else epoch_images
    if wanted > there:
        factors = [f"batch_images {recipe.batch_images}"]
        factors += [f"accumulate {recipe.accumulate}"] if recipe.accumulate > 1 else []
        factors += [f"{world_size} processes"] if world_size > 1 else []
        raise InputError(
            f"a step takes {wanted} images ({' x '.join(factors)}), an epoch has {there}",
            where="batch_images",
            remedy="lower it or raise epoch_images",
        )
    return epoch_images


def training_batches(recipe: TrainRecipe, dataset: SearchDataset, rank: int, world_size: int) -> TrainingLoader:
    """The loader of one process; ``batch_images`` is for each process, ``epoch_images`` for all together.

    Whatever the number of processes, and whether a step's images come at once or are accumulated, every step sees
    the same images in the same variation.

    Raises:
        InputError: a step wants more images than an epoch has.
    """
    return TrainingLoader(
        dataset,
        recipe.data,
        recipe.preprocess,
        batch_images=recipe.batch_images,
        epoch_images=check_batch(recipe, len(dataset), world_size),
        seed=recipe.seed,
        rank=rank,
        world_size=world_size,
    )
