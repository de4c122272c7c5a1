"""The three sets of rows of a search: to train on, to choose by, and the reported ones, which choose nothing."""

import dataclasses
from typing import Any

from jaxfreeze.config import OWN_TASKS, TrainConfig
from jaxfreeze.data.holdout import SHARE
from jaxfreeze.data.sources import HubRows
from jaxfreeze.data.tasks import HUB
from jaxfreeze.errors import InputError


def in_three_sets(config: TrainConfig, selection_share: float) -> TrainConfig:
    """The settings with which the validation rows are those to choose by and the test rows the reported ones.

    GLUE and the demo report on their dev rows and choose by rows held out of the training rows. Own rows report on
    their test rows, on their validation rows if they have no others, and else on a share held out. They choose by
    their validation rows where those are not reported, and else by a share held out. Raises InputError for a
    --validation_share, whose place the selection share takes.
    """
    if config.validation_share is not None:
        raise InputError(
            f"--validation_share {config.validation_share:g}: --find_layers holds out --selection_share; give that"
        )
    if config.task not in OWN_TASKS:
        return dataclasses.replace(config, validation_share=selection_share)
    place = "split" if config.task == HUB else "file"
    validation, test = getattr(config, f"validation_{place}"), getattr(config, f"test_{place}")
    if config.task == HUB and validation is None:
        validation = HubRows(config).default_validation()
    changes: dict[str, Any] = {}
    if test is None and config.test_share is None:
        changes = {"test_share": SHARE} if validation is None else {f"test_{place}": validation}
        validation = None
    changes |= {f"validation_{place}": validation, "validation_share": None if validation else selection_share}
    return dataclasses.replace(config, **changes)
