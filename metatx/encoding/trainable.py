"""Refusal of a run that trains nothing, by its choices alone: before data and weights are read."""

from metatx.registry import lookup, names
from metatx.spec import TaskSpec

__all__ = ["check_trains", "nothing_to_train"]


def nothing_to_train(head: str) -> ValueError:
    """Error of a run in which no weights would change.

    Args:
        head: Name of the head.
    """
    return ValueError(
        f"There is nothing to train: tokenizer and the {head} head have no weights here. Answer without training, or "
        "choose --tune lora, or a soft prompt (--head.soft-prompt 8)."
    )


def check_trains(spec: TaskSpec) -> None:
    """Refuse choices with which a head that continues would train nothing on a language model.

    Other choices are left to the training: they may depend on data and backbone.

    Raises:
        ValueError: If nothing would be trained, or a name is unknown.
    """
    if spec.head is None or spec.modality not in names("tokenizers") or spec.tune != "frozen":
        return
    head = lookup("heads", spec.head)
    if not head.continues:  # one that does has a language model below it, and so the stem of the tokenizer
        return
    tokenizer = lookup("tokenizers", spec.modality)
    if not (head.trains(spec.head_options) or tokenizer.trains(spec.tokenizer_options)):
        raise nothing_to_train(spec.head)
