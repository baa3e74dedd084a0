"""`atm-search show`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from atm_search.cli import options

Trial = Annotated[int, typer.Argument(metavar="TRIAL", help="Its number.", min=0)]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Also draw what it merges in example images, as a .png."),
]


def show(
    trial: Trial,
    storage: options.Storage = None,
    study: options.Study = None,
    output: Output = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Explain one trial: what it measured, where it stands, what each block does.

    Example: atm-search show 57 --study deit_t -o tokens.png
    """
    from atm_search.errors import InputError
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import result_console
    from atm_search.show.explanation import explanation, explanation_summary, record_of
    from atm_search.show.gallery import EXAMPLES, trial_png
    from atm_search.show.pictures import simple_to_complex
    from atm_search.show.subject import open_subject
    from atm_search.show.view import view

    seen = view(load(open_store(options.storage_address(storage), create=False), study))
    record = record_of(seen, trial)
    if output is not None:
        if output.suffix != ".png":
            raise InputError(f"{output}: token pictures are written as .png.")
        subject = open_subject(seen.study, checkpoint=checkpoint, data=data)
        chosen = simple_to_complex(subject.model, subject.shard, EXAMPLES)
        output.write_bytes(trial_png(subject, record, chosen))
    if as_json:
        print(json.dumps(explanation_summary(seen, trial), indent=2))
    else:
        result_console().print(explanation(seen, trial), soft_wrap=True)
