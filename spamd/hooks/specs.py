"""The hooks. Each docstring is the whole contract of its hook.

Three hooks, each returning a mapping from a name to a factory, so that a plugin is tested by a plain call. Merging, checks and
errors live in `spamd.hooks.manager`; what the factories make is described in `spamd.interfaces`.
"""

from collections.abc import Mapping

import pluggy

from spamd.interfaces import DatasetFactory, FreezingPolicy, HeadFactory

PROJECT = "spamd"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def spamd_register_heads() -> Mapping[str, HeadFactory]:  # type: ignore[empty-body]
    """Offer classification heads that `[model] head = "..."` and `retrain --head` can name.

    Called:  once at the start of the daemon and of each command that scores, trains or lists plugins, before any weights
             load; main thread.
    Returns: name -> factory. Name: lower-case letters, digits and dashes, unique among all plugins. `factory(width, num_classes,
             **options) -> Head`, with options from `[model.head_options]`. The head is a `torch.nn.Module` that maps hidden
             states (B, T, D) float32 and lengths (B,) int64 to class logits (B, C) float32, C = 2: ham, spam. Its `reads`
             says which positions it needs: "last" or "all".
    Merging: all plugins' mappings are joined; order does not matter.
    Errors:  DuplicateNameError (both plugins named) on a clash; anything raised here stops start-up as PluginError.
    Example: plugins/spamd-max-pool-head/
    """


@hookspec
def spamd_register_freezing_policies() -> Mapping[str, FreezingPolicy]:  # type: ignore[empty-body]
    """Offer freezing policies that `[training] freeze = "..."` and `retrain --freeze` can name.

    Called:  once at the start of each command that trains, evaluates or lists plugins; main thread.
    Returns: name -> policy. Name: lower-case letters, digits and dashes, unique among all plugins. `policy(names, epoch) -> names
             to train` is a pure choice: `names` are all parameter names in model order (`trunk.wte.weight`,
             `trunk.h.0.ln_1.weight`, ..., `head.linear.weight`), `epoch` counts from 0. It is asked for every epoch before the
             first begins, so that a wrong choice costs no training.
    Merging: all plugins' mappings are joined; order does not matter.
    Errors:  DuplicateNameError (both plugins named) on a clash; a name that the model lacks, or an empty choice, stops training
             as TrainingError that names the policy.
    Example: plugins/spamd-gradual-unfreezing/
    """


@hookspec
def spamd_register_datasets() -> Mapping[str, DatasetFactory]:  # type: ignore[empty-body]
    """Offer datasets that `--dataset NAME:PATH?key=value` can name.

    Called:  once at the start of each command that trains, evaluates or lists plugins; main thread.
    Returns: name -> factory. Name: lower-case letters, digits and dashes, unique among all plugins. `factory(path, **options) ->
             MessageDataset`; options are strings. The dataset yields `LabeledMessage(raw, label, origin)` in an order that
             is the same at each call; splitting stays in the core.
    Merging: all plugins' mappings are joined; order does not matter.
    Errors:  DuplicateNameError (both plugins named) on a clash; unreadable files are DatasetError that names the file.
    Example: plugins/jsonl_dataset.py
    """
