"""The tables of docs/performance.md from the files that the steps have written, each with the name of its device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.running import DONE, path_of, stored
from benchmarks.gpu.steps import SCRATCH, Step, all_steps

Found = Mapping[str, Any]
Lines = Iterator[str]

BEST_LOOP, OURS, OURS_BF16 = "conventional bf16 channels_last", "drcli", "drcli precision=bf16"


def report(out: Path) -> str:
    """Return what the folder of results holds, as Markdown: targets first, then a table per step."""
    results = {step.name: stored(path_of(out, step.name)) for step in all_steps()}
    done = {name: result["found"] for name, result in results.items() if result.get("status") == DONE}
    blocks = ["\n".join(targets(done, results))]
    blocks += ["\n".join(block(step, results[step.name])) for step in all_steps()]
    return "\n\n".join(blocks)


def block(step: Step, result: Found) -> Lines:
    """Yield the heading of a step, how it was called, and its table or why there is none."""
    yield f"## {step.name}: {device_of(result.get('found'))}"
    yield ""
    if not result:
        yield "*not measured*"
        return
    yield f"`python {' '.join(result['command']).replace(SCRATCH, 'DIR')}`" if result["command"] else f"`{step.script}`"
    yield ""
    if result["status"] != DONE:
        yield f"*{result['status']}: {result['message']}*"
        return
    if result["tiny"]:
        yield "*Tiny: this only shows that the chain holds. Its figures mean nothing.*\n"
    if result["shortened"]:
        yield f"*Shortened: {result['shortened']}.*\n"
    yield from TABLES[step.name](result["found"])


def device_of(found: Found | None) -> str:
    """Return what a step was measured on."""
    machine = (found or {}).get("machine")
    if machine is None:
        return "no device"
    name = machine["gpu"] or f"{machine['processor']} (CPU)"
    return f"{name}, {machine['cores']} cores, PyTorch {machine['torch']}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    """Yield a table in Markdown; all columns but the first hold numbers."""
    yield f"| {' | '.join(columns)} |"
    yield f"|---|{'---:|' * (len(columns) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def number(value: float | None, form: str = ".2f", unit: str = "") -> str:
    """Return a number as a table shows it, "-" where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return "-" if value is None else f"{100 * value:.1f} %"


def targets(done: Mapping[str, Found], results: Mapping[str, Found]) -> Lines:
    """Yield the targets beside what was measured."""
    loops = {one["name"]: one for one in done.get("throughput", {}).get("results", [])}
    ours = loops.get(OURS, {})
    both = BEST_LOOP in loops and OURS_BF16 in loops
    best = loops[BEST_LOOP]["seconds"] / loops[OURS_BF16]["seconds"] if both else None
    compute, whole, half = (done.get(name, {}) for name in ("compute_only", "experiment", "experiment_bf16"))
    ratios = [value for K, value in kmeans_ratios(done.get("kmeans", {})).items() if K >= 31]
    yield f"## Targets: {device_of(next(iter(done.values()), None))}"
    yield ""
    rows = [
        ("end to end, size of CREMA-D, compared with the conventional loop", "10", number(ours.get("faster"))),
        ("the same, bf16 in both and channels_last in the conventional loop", "reported", number(best)),
        ("computation alone, as a share of the epoch", "90 %", percent(compute.get("share_of_epoch"))),
        ("whole CREMA-D experiment with D&R", "5 min (aim 2)", seconds_of(whole)),
        ("the same with bf16", "reported", seconds_of(half)),
        ("diagnosis with re-learning, share of training time", "3 %", percent(whole.get("diagnosis_share"))),
        ("K-means compared with scikit-learn on all cores, K >= 31", "100", number(min(ratios, default=None), ".0f")),
    ]
    yield from table(("figure", "project's target", "measured"), rows)
    if any(result.get("tiny") for result in results.values()):
        yield "\n*Tiny: this only shows that the chain holds. Its figures mean nothing.*"


def seconds_of(experiment: Found) -> str:
    """Return what a whole experiment takes, and whether that is projected."""
    return number(experiment.get("seconds"), ".0f", " s") + (" (projected)" if experiment.get("projected") else "")


def facts_table(found: Found) -> Lines:
    """Yield what the device is and what it can do."""
    rows = [
        (f"matrix products, {name}", number(rate / 1e12, ".1f", " TFLOP/s")) for name, rate in found["products"].items()
    ]
    rows.append(("copy on the device", number(found["copy"] / 1e9, ".0f", " GB/s")))
    if "from_host" in found:
        rows.append(("copy from the host's page-locked memory", number(found["from_host"] / 1e9, ".1f", " GB/s")))
        rows.append(("memory of the device", number(found["device_memory_gb"], ".1f", " GB")))
        versions = f"{found['cuda']}, {found['cudnn']}, {found['driver']}"
        rows.append(("CUDA, cuDNN, driver", versions))
    rows.append(("memory, of it shared", f"{found['memory_gb']:.0f} GB, {found['shared_memory_gb']:.0f} GB"))
    rows.append(("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items())))
    yield from table(("", "found"), rows)


def tests_table(found: Found) -> Lines:
    """Yield how many tests passed, and what failed."""
    kinds = ("passed", "failed", "skipped")
    yield from table(kinds, [[str(found[kind]) for kind in kinds]])
    for name, why in found["failures"].items():
        yield f"\n- `{name}`: {why.splitlines()[0] if why else 'no message'}"
    for why in found["reasons"]:
        yield f"\nSkipped: {why}"


def compute_table(found: Found) -> Lines:
    """Yield the shares of computation alone."""
    rows = [
        (
            "training pass",
            *(number(found[key], ".3f") for key in ("training_pass", "steps")),
            percent(found["share_of_pass"]),
        ),
        (
            "whole epoch",
            number(found["epoch"], ".3f"),
            number(found["steps"] + found["forward"], ".3f"),
            percent(found["share_of_epoch"]),
        ),
    ]
    yield from table(("", "s", "s of compute alone", "share"), rows)
    yield (
        f"\nA step: {found['operations'] / 1e9:.1f} GFLOP, {found['rate'] / 1e12:.2f} TFLOP/s on the resident batch, "
        f"{percent(found['share_of_peak'])} of {found['peak'] / 1e12:.1f} of a large matrix product.\n"
    )
    largest = [(one["name"], percent(one["share"]), f"{one['calls']:,}") for one in found["operators"][:10]]
    yield from table(("operator", "share", "calls"), largest)


def throughput_table(found: Found) -> Lines:
    """Yield the variants of the training loop."""
    rows = [
        (
            one["name"],
            number(one["faster"]),
            *(number(value, ".3f") for value in (one["seconds"], min(one["repeats"]), max(one["repeats"]))),
            number(one["clips_per_second"], ".0f"),
            number(one["start"], ".1f"),
            one["data"],
        )
        for one in found["results"]
    ]
    yield from table(("variant", "times faster", "s / epoch", "least", "most", "clips / s", "start s", "data"), rows)
    yield f"\nTurns: {len(found['results'][0]['repeats'])}; workers of the conventional loop: {found['workers']}."
    for one in found["results"]:
        if one["note"]:
            yield f"\n{one['name']}: {one['note']}"


def experiment_table(found: Found) -> Lines:
    """Yield where the time and the memory of a whole run go."""
    run = found["run"]
    rows = [
        ("clips", " / ".join(f"{rows:,}" for rows in found["clips"].values())),
        ("epochs, events", f"{run['schedule']['epochs']}, {run['schedule']['events']}"),
        ("seconds", number(run["total"], ".1f")),
        ("seconds of the whole run" + (", projected" if found["projected"] else ""), number(found["seconds"], ".1f")),
        *((name, number(run[name])) for name in ("start", "compilation", "first", "epoch", "event", "finish")),
        ("diagnosis, share of training time", percent(found["diagnosis_share"])),
        ("probes, share of the run", percent(found["probe_share"])),
        *((f"{name}, sum", number(seconds)) for name, seconds in run["parts"].items()),
        ("memory of the device, MiB", number(found["peak_mib"]["device"], ".0f")),
        ("memory of the process with its maps, MiB", number(found["peak_mib"]["process"], ".0f")),
    ]
    yield from table(("seconds, where nothing else is said", "measured"), rows)


def kmeans_ratios(found: Found) -> dict[int, float]:
    """Return how many times faster ours is than scikit-learn on all cores, by K."""
    ratios = {}
    for case in found.get("cases", []):
        engines = [one for one in found["results"] if one["case"] == case["name"]]
        (ours,) = (one for one in engines if one["engine"].startswith("drcli"))
        (all_cores,) = (one for one in engines if one["engine"].endswith("all cores"))
        ratios[case["classes"]] = all_cores["seconds"] / ours["seconds"]
    return ratios


def kmeans_table(found: Found) -> Lines:
    """Yield the engines of K-means by case."""
    sizes = {case["name"]: f"{case['rows']:,}, K = {case['classes']}" for case in found["cases"]}
    ours = {one["case"]: one["seconds"] for one in found["results"] if one["engine"].startswith("drcli")}
    rows = [
        (
            sizes[one["case"]],
            one["engine"],
            number(one["seconds"], ".3f"),
            number(one["seconds"] / ours[one["case"]], ".1f"),
            number(one["inertia"], ".4g"),
            number(one["purity"], ".4f"),
        )
        for one in found["results"]
    ]
    yield from table(("rows, clusters", "engine", "s", "times drcli's", "inertia", "purity"), rows)


def diagnosis_table(found: Found) -> Lines:
    """Yield the shares of diagnosis and probes."""
    (run, *_) = found["runs"]
    rows = [
        ("epochs, events", f"{run['schedule']['epochs']}, {run['schedule']['events']}"),
        ("seconds of a run", number(run["total"], ".1f")),
        ("one epoch, one event", f"{number(run['epoch'])}, {number(run['event'])}"),
        ("diagnosis and re-learning, share of training time", percent(found["diagnosis_share"])),
        ("linear probes, share of the run", percent(found["probe_share"])),
    ]
    yield from table((found["recipe"], "measured"), rows)


def samples_table(found: Found) -> Lines:
    """Yield what samples of a diagnosis lose and save."""
    rows = [
        (
            "all" if one["sample"] is None else f"{one['sample']:,}",
            *(number(one[key], ".4f") for key in ("purity", "gap", "purity_error", "gap_error")),
            number(one["seconds"]),
            number(one["memory"], ".0f"),
            percent(one["share"]),
        )
        for one in found["samples"]
    ]
    columns = ("sample", "purity", "gap", "error of purity", "error of the gap", "s", "MiB", "share of an event")
    yield from table(columns, rows)


def scaling_table(found: Found) -> Lines:
    """Yield time and memory against clips, modalities, classes."""
    rows = [
        (
            ", ".join(f"{value:,} {name}" for name, value in one["case"].items()),
            number(one["epoch"], ".3f"),
            number(one["event"], ".3f"),
            number(one["probes"], ".3f"),
            number(one["process"], ".0f"),
            number(one["device"], ".0f"),
        )
        for one in found["results"]
    ]
    yield from table(("", "s / epoch", "s / event", "s of probes", "process MiB", "device MiB"), rows)


def side_by_side_table(found: Found) -> Lines:
    """Yield grids with several runs at once."""
    rows = [
        (
            str(one["at_once"]),
            number(one["seconds"]),
            number(one["seconds"] / found["runs"]),
            number(one["faster"]),
            number(one["device_mib"], ".0f"),
            "yes" if one["same_bits"] else "no",
        )
        for one in found["results"]
    ]
    columns = ("runs at once", "s", "s / run", "times faster", "device MiB per run", "same bits")
    yield from table(columns, rows)


TABLES: Mapping[str, Callable[[Found], Lines]] = {
    "facts": facts_table,
    "tests": tests_table,
    "graphs": tests_table,
    "compute_only": compute_table,
    "throughput": throughput_table,
    "compiled": throughput_table,
    "experiment": experiment_table,
    "experiment_bf16": experiment_table,
    "kmeans": kmeans_table,
    "diagnosis": diagnosis_table,
    "diagnosis_scale": samples_table,
    "scaling": scaling_table,
    "side_by_side": side_by_side_table,
    "memory_stream": experiment_table,
}
