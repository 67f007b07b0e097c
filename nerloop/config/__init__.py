"""The settings of a run: dataclasses (schema), and how YAML and flags fill them (parse)."""

from nerloop.config.schema import (
    DEMO,
    DEMO_LEARNING_RATE,
    LEARNING_RATE,
    RANGES,
    SECTIONS,
    Config,
    DataSettings,
    ModelSettings,
    Plugin,
    RunSettings,
    TrainSettings,
    flat_settings,
    flatten,
    validate,
)

__all__ = [
    "DEMO",
    "DEMO_LEARNING_RATE",
    "LEARNING_RATE",
    "RANGES",
    "SECTIONS",
    "Config",
    "DataSettings",
    "ModelSettings",
    "Plugin",
    "RunSettings",
    "TrainSettings",
    "flat_settings",
    "flatten",
    "validate",
]
