"""Study files: those that are shipped, what the command line replaces, refusals with the line."""

import csv
import json
from pathlib import Path
from types import ModuleType

import pytest

from atm_search.errors import ConfigurationError, ParameterError
from atm_search.merging.atm import Atm
from atm_search.merging.diffrate import DiffRate
from atm_search.merging.method import Range
from atm_search.merging.registry import method_class
from atm_search.models.zoo import DEMO
from atm_search.search.samplers import SAMPLERS
from atm_search.search.space import Space
from atm_search.search.study_file import TRIALS, StudyFile

STUDIES = sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yaml"))
DEPTH = 12
# Published models, the table of arXiv 2505.15160 that has each, and the number of their blocks.
PUBLISHED = {
    "deit_t": ("A2", 12),
    "deit_s": ("A2", 12),
    "deit_b": ("A2", 12),
    "lvvit_t": ("A4", 12),
    "lvvit_s": ("A4", 16),
    "lvvit_m": ("A4", 20),
    "t2t_vit_14": ("A5", 14),
    "t2t_vit_19": ("A5", 19),
    "mae_b": ("A5", 12),
}

# Files that begin at DiffRate's published schedules, and what their authors call the model.
DIFFRATE = {
    "diffrate_deit_t": "ViT-T-DeiT",
    "diffrate_deit_s": "ViT-S-DeiT",
    "diffrate_deit_b": "ViT-B-DeiT",
    "diffrate_mae_b": "ViT-B-MAE",
}

WHOLE = """\
study: mine
model: deit_s
data: imagenet/val
space:
  tau_min: {low: 0.85}
  split_depth: {low: 9, high: 9}
trials: 30
sampler: grid
step: 2
seed: 7
protocol:
  batch_size: 50
  dtype: bfloat16
  images: 1000
  crop_pct: 0.875
constraints:
  max_drop: 1
  max_gflops: 3.5
enqueue:
  - {tau0: 0.98, alpha: 0.035, tau_min: 0.93, split_depth: 9}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "search.yaml"
    file.write_text(WHOLE)
    return file


@pytest.mark.parametrize("name", DIFFRATE)
def test_a_search_of_diffrate_begins_at_its_published_schedules(name: str, shared: Path) -> None:
    published = json.loads((shared / "reference" / "diffrate_published.json").read_text())
    file = StudyFile.read(next(path for path in STUDIES if path.stem == name))
    assert [DiffRate.from_params(point) for point in file.enqueue] == [
        DiffRate(
            prune_kept=json.loads(schedule["prune_kept_num"]),
            merge_kept=json.loads(schedule["merge_kept_num"]),
        )
        for schedule in published[DIFFRATE[name]].values()
    ]


def test_there_is_a_file_for_every_published_model() -> None:
    assert {path.stem for path in STUDIES} == {*PUBLISHED, DEMO, *DIFFRATE}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_file_loads_and_its_points_lie_in_its_space(
    path: Path, stub: ModuleType
) -> None:
    file = StudyFile.read(path)
    assert file.study == path.stem
    assert file.model == path.stem.removeprefix("diffrate_")
    assert file.sampler in SAMPLERS
    file.limits()
    _, depth = PUBLISHED.get(file.model, ("", DEPTH))
    (name,) = file.methods()
    method = method_class(name)
    identity = stub.identity(
        method=name,
        fixed_params=method.defaults() | {"prop_attn": True},
        space=file.ranges(Space(method.space(depth))),
    )
    for wish in ("published" if file.published else None, file.enqueue):
        points = file.over(enqueue=wish).start_points()
        assert points is None or points.checked(identity)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_points_are_those_of_the_paper(name: str, shared: Path) -> None:
    file = StudyFile.read(next(path for path in STUDIES if path.stem == name))
    assert file.published is not None
    table_name, depth = PUBLISHED[name]
    assert f"2505.15160, Table {table_name}" in file.published.source
    assert {p.params["split_depth"] for p in file.published.points} == {round(0.75 * depth)}
    with (shared / "reference" / "atm_published.csv").open() as table:
        rows = [
            row
            for row in csv.DictReader(table)
            if (row["table"], row["model"], row["fine_tuned"]) == (table_name, name, "0")
        ]
    names = ("tau0", "alpha", "tau_min")
    expected = [
        (*(float(row[name]) for name in names), float(row["gflops"]), float(row["top1"]))
        for row in rows
        if row["tau0"]
    ]
    found = [
        (*(point.params[name] for name in names), point.gflops, point.top1)
        for point in file.published.points
    ]
    assert found == expected
    dense = file.published.dense
    assert [(dense.gflops, dense.top1)] == [
        (float(row["gflops"]), float(row["top1"])) for row in rows if not row["tau0"]
    ]


def test_a_file_says_what_its_keys_say(path: Path, stub: ModuleType) -> None:
    file = StudyFile.read(path)
    assert (file.study, file.trials, file.sampler, file.step) == ("mine", 30, "grid", 2)
    assert file.protocol.crop_pct == 0.875
    assert file.limits().to_dict() == {"max_drop": 1.0, "max_gflops": 3.5}
    tau0, alpha, tau_min, split = file.ranges(Space(Atm.space(DEPTH))).ranges
    assert (tau0, alpha) == Atm.space(DEPTH)[:2]
    assert tau_min == Range("tau_min", 0.85, 0.945, 0.005)
    assert split == Range("split_depth", 9, 9, 1)
    assert split.is_integer
    points = file.start_points()
    assert points is not None
    assert points.checked(stub.identity())[0]["tau_min"] == 0.93


def test_the_command_line_wins_where_it_says_something(path: Path) -> None:
    file = StudyFile.read(path).over(
        trials=5, batch_size=10, max_drop=0.0, dtype=None, sampler=None, data=Path("elsewhere")
    )
    assert (file.trials, file.sampler, Path(file.data or "")) == (5, "grid", Path("elsewhere"))
    assert (file.protocol.batch_size, file.protocol.dtype) == (10, "bfloat16")
    assert file.limits().to_dict() == {"max_drop": 0.0, "max_gflops": 3.5}


def test_a_grid_has_as_many_trials_as_points_unless_told_otherwise() -> None:
    space = Space(Atm.space(DEPTH))
    assert StudyFile().budget(space) == TRIALS
    assert StudyFile(trials=7, sampler="grid").budget(space) == 7
    assert StudyFile(sampler="grid").budget(space) == 37_440
    assert StudyFile(sampler="grid", step=3).budget(space) == 600
    with pytest.raises(ParameterError, match="step=3 is of a grid"):
        StudyFile(sampler="tpe", step=3).budget(space)


def test_a_study_without_a_name_has_that_of_its_file(path: Path) -> None:
    path.write_text("model: deit_t\n")
    assert StudyFile.read(path).study == "search"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sampler:", "sampeler:", "unknown key 'sampeler'. Did you mean 'sampler'"),
        ("batch_size:", "batchsize:", "unknown key 'batchsize'. Did you mean 'batch_size'"),
        ("max_drop:", "max_dorp:", "unknown key 'max_dorp'. Did you mean 'max_drop'"),
        ("{low: 9, high: 9}", "{low: 9, hihg: 9}", "unknown key 'hihg'. Did you mean 'high'"),
        ("trials: 30", "trials: many", "trials='many'"),
        ("trials: 30", "trials: '30'", "trials='30'"),
        ("trials: 30", "trials: 30.5", "trials=30.5"),
        ("seed: 7", "seed: yes", "seed=True"),
        ("crop_pct: 0.875", "crop_pct: [0.9]", r"protocol.crop_pct=\[0.9\]"),
        ("protocol:", "protocol: 3\nconstraints:", "protocol=3"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_line(
    path: Path, old: str, new: str, words: str
) -> None:
    line = WHOLE[: WHOLE.index(old)].count("\n") + 1
    text = WHOLE.split("protocol:")[0] + new if old == "protocol:" else WHOLE.replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"search.yaml, line {line}: {words}"):
        StudyFile.read(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tau_min: {", "tau_mim: {", "unknown parameter 'tau_mim'. Did you mean 'tau_min'"),
        ("{low: 0.85}", "{low: 0.851}", "tau_min from 0.851 to 0.945 by 0.005 is not a whole"),
        ("{low: 9, high: 9}", "{high: 9.5}", "split_depth from 0 to 9.5"),
        ("{low: 9, high: 9}", "{step: 0.5}", "split_depth is a count"),
        ("{low: 0.85}", "{low: .inf}", "tau_min from inf"),
    ],
)
def test_a_space_that_the_method_does_not_have_is_refused_with_its_line(
    path: Path, old: str, new: str, words: str
) -> None:
    path.write_text(WHOLE.replace(old, new, 1))
    line = WHOLE[: WHOLE.index(old)].count("\n") + 1
    with pytest.raises(ConfigurationError, match=rf"search.yaml, line {line}: {words}"):
        StudyFile.read(path).ranges(Space(Atm.space(DEPTH)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no study file"),
        ("- 1", "is no study file"),
        ("model: [", "is no YAML"),
        ("model: demo\nenqueue: published\n", "line 2: the file has no 'published' points"),
    ],
)
def test_a_file_that_is_no_study_is_refused(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        StudyFile.read(path)


def test_a_negative_limit_is_refused(path: Path) -> None:
    path.write_text(WHOLE.replace("max_drop: 1", "max_drop: -1"))
    with pytest.raises(ParameterError, match=r"max_drop=-1\.0 is no loss"):
        StudyFile.read(path).limits()
