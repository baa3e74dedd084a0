"""Every error that atm-search raises on purpose.

    AtmSearchError              the work failed                              exit code 1
    ├── MeasurementError        a model gave outputs that cannot be scored
    └── InputError              what was asked cannot be done as asked       exit code 2
        ├── ParameterError      a method's parameter, or a method's name
        ├── ModelError          no such model, or one no method can run in
        ├── CheckpointError     weights missing, unreadable or of another model
        ├── DataError           images or labels
        ├── StoreError          the SQL store
        ├── StudyError          a study that does not exist or does not fit
        └── ConfigurationError  a YAML file

The command line prints the message of these as one line; anything else is a bug and shows its
traceback.
"""


class AtmSearchError(Exception):
    """Base of the family: the message says what was given, what rule it broke and what to do."""

    exit_code = 1


class MeasurementError(AtmSearchError):
    """A model gave outputs that cannot be scored, NaN for instance."""


class InputError(AtmSearchError):
    """What was asked cannot be done as asked; nothing was changed."""

    exit_code = 2


class ParameterError(InputError):
    """A method's parameter is out of its range, or there is no such method."""


class ModelError(InputError):
    """There is no such model, or it is none that a method can run in."""


class CheckpointError(InputError):
    """Weights are missing, unreadable or belong to another model."""


class DataError(InputError):
    """Images or labels are missing, unreadable or do not fit the model."""


class StoreError(InputError):
    """The SQL store cannot be reached, read or written."""


class StudyError(InputError):
    """A study does not exist, or was made from another model, shard or protocol."""


class ConfigurationError(InputError):
    """A YAML file is unreadable, of another schema version, or has unknown or missing keys."""
