"""HDL: feature, attention and prediction knowledge at every block (Li, Gong, Zhu; equations 4 to 10)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from personsearch.distill.attention_transfer import Reduction, attention_transfer_loss
from personsearch.distill.prediction import KLDirection, prediction_loss
from personsearch.distill.relation import relation_loss
from personsearch.distill.task import Criteria, Knowledge, TapLoss
from personsearch.distill.teachers import Teacher
from personsearch.models.search_model import TrainOutput


def hierarchical_knowledge(
    teacher: Teacher,
    *,
    levels: Sequence[str],
    feature: bool,
    attention: bool,
    prediction: bool,
    relation: bool,
    lambda_prediction: float,
    lambda_attention: float,
    lambda_feature: float,
    lambda_relation: float,
    temperature: float,
    reduction: Reduction,
    kl_direction: KLDirection,
) -> Knowledge:
    """``(1 - l0) L_ID + l0 L_PD + l1 L_AD + l2 L_FD + L_DET`` (HDL, equation 10).

    The paper's sums over levels are kept as sums. It does not say which levels take part: ``levels`` does.

    Args:
        teacher: whose.
        levels: blocks of feature and attention distillation, names of `SearchModel` taps.
        feature: whether L_FD takes part.
        attention: whether L_AD does.
        prediction: whether L_PD does; without it L_ID keeps weight 1, as equation 10 divides one unit between two.
        relation: whether `relation_loss` on the embeddings is added; HDL has none.
        lambda_prediction: l0, in [0, 1].
        lambda_attention: l1.
        lambda_feature: l2.
        lambda_relation: weight of the relation loss.
        temperature: of L_PD.
        reduction: of L_FD and L_AD, see `attention_transfer_loss`.
        kl_direction: of L_PD, see `prediction_loss`.

    Raises:
        ValueError: all kinds are off.
    """
    transfer: TapLoss = partial(_on_maps, reduction=reduction)
    criteria: dict[str, Criteria] = {}
    if feature:
        criteria["feature"] = Criteria(lambda_feature, _same_taps("feature", levels, transfer))
    if attention:
        criteria["attention"] = Criteria(lambda_attention, _same_taps("attention", levels, transfer))
    weights: dict[str, float] = {}
    if prediction:
        loss: TapLoss = partial(_on_identities, temperature=temperature, direction=kl_direction)
        criteria["prediction"] = Criteria(lambda_prediction, {("identity_logits", "identity_logits"): loss})
        weights["identity"] = 1 - lambda_prediction
    if relation:
        criteria["relation"] = Criteria(lambda_relation, {("embedding", "embedding"): _on_relations})
    if not criteria:
        raise ValueError("at least one criterion of HDL must be on")
    return Knowledge(teacher, criteria, weights)


def _on_maps(student: Tensor, teacher: Tensor, output: TrainOutput, *, reduction: Reduction) -> Tensor:
    # A map is compared wherever it was taken: background RoIs show where not to look.
    return attention_transfer_loss(student, teacher, reduction=reduction)


def _on_identities(
    student: Tensor, teacher: Tensor, output: TrainOutput, *, temperature: float, direction: KLDirection
) -> Tensor:
    return prediction_loss(student, teacher, output.roi_person_ids, temperature=temperature, direction=direction)


def _on_relations(student: Tensor, teacher: Tensor, output: TrainOutput) -> Tensor:
    return relation_loss(student, teacher, output.roi_person_ids)


def _same_taps(kind: str, levels: Sequence[str], loss: TapLoss) -> dict[tuple[str, str], TapLoss]:
    return {(f"{kind}.{level}", f"{kind}.{level}"): loss for level in levels}
