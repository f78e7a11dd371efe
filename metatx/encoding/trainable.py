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
        "choose --tune lora, or a soft prompt (--head.soft-prompt 8), on a language model that writes."
    )


def check_trains(spec: TaskSpec) -> None:
    """Refuse choices with which a head that continues would train nothing on a language model.

    Other choices are left to the training: they may depend on data and backbone.

    Raises:
        ValueError: If nothing would be trained, or a name is unknown.
    """
    if spec.head is None or spec.tune != "frozen":
        return
    head = lookup("heads", spec.head)
    if not head.continues or head.trains(spec.head_options):
        return
    # A head that continues has a language model below it, and so the tokenizers have their stem.
    if isinstance(spec.modality, str):
        parts = [(spec.modality, spec.tokenizer_options)]
    else:
        parts = [(each.modality, each.options) for each in spec.several]
        if any(each.through for each in spec.several):  # with a bridge, which is trained
            return
    known = names("tokenizers")
    if all(name in known and not lookup("tokenizers", name).trains(options) for name, options in parts):
        raise nothing_to_train(spec.head)
