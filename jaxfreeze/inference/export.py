"""Exports a finished run as a Hugging Face folder: all of its tensors, or the trained ones alone."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from jaxfreeze import console, freezing
from jaxfreeze.atomic import check_new, new_folder
from jaxfreeze.data.token_store import TOKENIZER_FILES
from jaxfreeze.data.words import write_prepared
from jaxfreeze.errors import InputError, listed
from jaxfreeze.inference import model_card
from jaxfreeze.inference.finished_run import FinishedRun
from jaxfreeze.inference.stablehlo import serialized
from jaxfreeze.model import weights
from jaxfreeze.model.families import family_of
from jaxfreeze.model.files import read_json
from jaxfreeze.model.hub import model_folder, read_config
from jaxfreeze.settings import expanded

WHOLE, TOP, STABLEHLO = "model.safetensors", "top.safetensors", "model.stablehlo"
CONFIG, TOKENIZER_CONFIG, CARD, ABOUT = "config.json", "tokenizer_config.json", "README.md", "jaxfreeze.json"
FORMAT = 1  # of jaxfreeze.json
PLACES = ("base", "top")  # where a tensor of the whole model comes from
NOT_KEPT = (  # of the source's config.json: wrong here, or other outputs than `pipeline` takes
    *("num_labels", "problem_type", "torch_dtype", "quantization_config", "auto_map", "custom_pipelines"),
    *("return_dict", "use_return_dict", "torchscript", "attn_implementation", "_attn_implementation"),
)

Tensors = dict[str, np.ndarray]


class Parts(NamedTuple):
    """The tensors of a classifier's file, by name and by where they come from."""

    base: Tensors  # frozen, with the type and bits of the source's files
    top: Tensors  # float32: trained ones, and frozen ones that the source does not hold, or in another order
    labels: dict[str, str]  # trained or frozen, of all of them


def export(
    run_path: Path, output: Path, best: bool = False, top_only: bool = False, with_stablehlo: bool = False
) -> None:
    """Write a finished run as a folder that transformers loads; the folder is written atomically.

    best: as FinishedRun has it. top_only: of the tensors the trained ones alone, which `apply_top` puts on the base.
    with_stablehlo: the compiled function's portable form too. Raises InputError for a folder that holds no finished
    run, another base than the run's, or an output folder with something in it.
    """
    if top_only and with_stablehlo:
        raise InputError("--top_only: not with --format stablehlo, whose file holds the whole model; leave one out")
    check_new(output, "--output")
    run = FinishedRun(run_path, best)
    parts = _parts(run)
    with new_folder(output, "--output") as folder:
        about = {"format": FORMAT, "base": run.config.model, "identity": run.origin and run.origin.identity.as_json()}
        if top_only:
            _save(parts.top, folder / TOP)
            about |= _tensors(parts)
        else:
            _save(parts.base | parts.top, folder / WHOLE)
        _write_json(folder / ABOUT, about)
        if with_stablehlo:
            (folder / STABLEHLO).write_bytes(serialized(run.model, run.params))
        _write_json(folder / CONFIG, _config(run))
        _copy(run.model.folder, folder, TOKENIZER_FILES)
        _write_json(folder / TOKENIZER_CONFIG, _tokenizer_config(run))
        if run.encoder.words:
            write_prepared(run.encoder.tokenizer, folder)
        (folder / CARD).write_text(model_card.text(run, top_only, with_stablehlo), encoding="utf-8")
    kept, whole = (sum(leaf.nbytes for leaf in tensors.values()) / 1e6 for tensors in (parts.top, parts.base))
    console.say(
        f"{output}: {len(parts.base)} frozen tensors as in the pretrained files, byte for byte"
        + (f" ({whole:,.1f} MB), left out" if top_only else "")
        + f"; {len(parts.top)} from the run ({kept:,.1f} MB)"
    )


def apply_top(top: str | Path, base: str | Path, output: str | Path) -> Path:
    """Put the trained tensors of a folder that `export --top_only` wrote on their base -> the output folder.

    top: that folder. base: hub name or local folder of the pretrained model. output: a new or empty folder; it gets the
    files that `export` without --top_only writes, byte for byte, or nothing. Raises InputError for a base with other
    tensors than those that were frozen in the run, a top with a damaged, missing or surplus tensor (both are named in
    it), a folder that is no top, and an output folder with something in it.
    """
    top, output = Path(expanded(str(top))), Path(expanded(str(output)))
    check_new(output, "--output")
    trained_on, digests = _read_about(top)
    own = weights.read_file(top / TOP)
    _check_tensors(own, digests["top"], f"{top / TOP}: not the file that was exported", "copy or export it again")
    source = model_folder(expanded(str(base)))
    found = weights.read_as_filed(source, read_config(source).model_type, digests["base"])
    given = f"{base}: not the weights that this top was trained on"
    _check_tensors(found, digests["base"], given, f"give the folder or hub name of {trained_on}")
    read_config(top)
    with new_folder(output, "--output") as folder:
        _save(found | own, folder / WHOLE)
        _copy(top, folder, (CONFIG, *TOKENIZER_FILES))
        about = read_json(top / ABOUT)
        _write_json(folder / ABOUT, {name: about[name] for name in about if name not in ("sha256", "tensors")})
        card = top / CARD
        if card.is_file():
            (folder / CARD).write_text(model_card.of_whole(card.read_text(encoding="utf-8")), encoding="utf-8")
    return output


def _parts(run: FinishedRun) -> Parts:
    model, model_type = run.model, run.model.encoder.model_type
    names = {path: weights.hugging_face_name(path, model_type, model.column.by_token) for path in run.params}
    in_base = {path for path in model.frozen if path not in (*model.fresh, *model.reordered)}
    top: Tensors = {}
    for path, leaf in run.params.items():
        name, transposed = names[path]
        if path not in in_base:
            array = np.asarray(leaf).astype(np.float32)
            top[name] = np.ascontiguousarray(array.T if transposed else array)
    carried = family_of(model_type).carried
    base = weights.read_as_filed(model.folder, model_type, [*(names[path][0] for path in sorted(in_base)), *carried])
    labels = {names[path][0]: label for path, label in model.labels.items()}
    return Parts(base, top, dict.fromkeys(carried, freezing.FROZEN) | labels)


def _tensors(parts: Parts) -> dict[str, Any]:
    """What jaxfreeze.json says of the tensors where a part of them is left out."""
    digests = {place: freezing.digests(getattr(parts, place)) for place in PLACES}
    return {
        "sha256": freezing.digest_of(digests["base"] | digests["top"]),
        "tensors": {
            name: {"from": place, "label": parts.labels[name], "sha256": digest}
            for place in PLACES
            for name, digest in digests[place].items()
        },
    }


def _read_about(top: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """jaxfreeze.json -> (the base by name, place -> tensor -> SHA-256). Raises InputError for any other content."""
    file = top / ABOUT
    if not file.is_file():
        raise InputError(f"{top}: holds no {ABOUT}; expected a folder that `export --top_only` wrote")
    about = read_json(file)
    if about.get("format") != FORMAT:
        raise InputError(f"{file}: format is {about.get('format')!r}; expected {FORMAT}: another jaxfreeze wrote it")
    try:
        tensors = about["tensors"].items()
        digests = {place: {name: of["sha256"] for name, of in tensors if of["from"] == place} for place in PLACES}
        whole = freezing.digest_of(digests["base"] | digests["top"]) == about["sha256"]
        base = str(about["base"])
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{file}: damaged; copy or export it again")
    return base, digests


def _check_tensors(found: Tensors, expected: Mapping[str, str], what: str, mend: str) -> None:
    """Raise InputError that names the tensors, unless these are the expected ones, by digest."""
    digests = freezing.digests(found)
    wrong = {
        "missing": expected.keys() - found.keys(),
        "surplus": found.keys() - expected.keys(),
        "with other bits": {name for name, digest in digests.items() if expected.get(name, digest) != digest},
    }
    lists = [f"{title}: {listed(sorted(names))}" for title, names in wrong.items() if names]
    if lists:
        raise InputError(f"{what} ({'; '.join(lists)}); {mend}")


def _config(run: FinishedRun) -> dict[str, Any]:
    """The classifier's config.json, from its base's."""
    source, model_type = read_json(run.model.folder / CONFIG), run.model.encoder.model_type
    return {name: value for name, value in source.items() if name not in NOT_KEPT} | {
        "model_type": model_type,
        "architectures": [family_of(model_type, run.model.column.by_token).architecture],
        **run.task.objective.hugging_face_config(),
        "dtype": "float32",
    }


def _tokenizer_config(run: FinishedRun) -> dict[str, Any]:
    """The source's tokenizer_config.json, if there is one, with what makes texts to tokens as the run did."""
    file = run.model.folder / TOKENIZER_CONFIG
    types = ["token_type_ids"] if run.model.encoder.type_vocab_size > 1 else []
    names = ["input_ids", *types, "attention_mask"]  # not every tokenizer gives the types of itself
    own = {"model_max_length": run.config.max_length, "model_input_names": names}
    return (read_json(file) if file.is_file() else {}) | own


def _save(tensors: Tensors, file: Path) -> None:
    try:
        save_file(tensors, file, metadata={"format": "pt"})  # as transformers marks its own files
    except SafetensorError as error:  # its own name for a full disk, among others
        raise OSError(str(error)) from error
    file.chmod(file.parent.stat().st_mode & 0o666)  # safetensors lets nobody but the owner read it


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
