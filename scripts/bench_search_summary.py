"""Summarise results of `bench_search.py`: medians with bands as JSON lines, curves as a page.

    python scripts/bench_search_summary.py scripts/results/search_*.jsonl --plot curves.html

One line per case and batch size. `regret` holds, per system, the median over seeds after 128
evaluations and at the end, each with a 95 % bootstrap band of the median. `reached` is after how
many evaluations the median of `bayesian` is down to the lowest final median of Optuna's samplers,
as a share of that run's length (None: never); only those with five seeds and runs as long count.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_search import AT, BLIND

#: Regret is drawn on a logarithmic axis; the optimum itself lies at this value.
FLOOR = 1e-6
#: Fewer runs than this say nothing of a median.
MIN_SEEDS = 5
COLOURS = (
    "#1f77b4",
    "#17becf",
    "#2ca02c",
    "#d62728",
    "#ff7f0e",
    "#7f7f7f",
    "#bcbd22",
    "#9467bd",
    "#e377c2",
)

#: (case, batch) -> system -> one curve per seed, and one number of seconds per seed.
Groups = dict[tuple[str, int], dict[str, tuple[np.ndarray, list[float]]]]


def read(paths: Sequence[str]) -> Groups:
    """Group results; systems that look at no result count for every batch size."""
    rows = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    batches = sorted({row["batch"] for row in rows if row["system"] not in BLIND})
    curves: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        for batch in batches if row["system"] in BLIND else [row["batch"]]:
            curves[row["case"], batch, row["system"]].append(row)
    groups: Groups = defaultdict(dict)
    for (case, batch, system), runs in sorted(curves.items()):
        length = min(len(run["curve"]) for run in runs)
        curve = np.array([run["curve"][:length] for run in runs])
        groups[case, batch][system] = (curve, [run["seconds"] for run in runs])
    return groups


def band(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[t] median over the first axis, and the ends of its 95 % bootstrap band."""
    rows = np.random.default_rng(0).integers(0, len(curves), (1000, len(curves)))
    medians = np.median(curves[rows], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975], axis=0)
    return np.median(curves, axis=0), low, high


def summary(groups: Groups) -> Iterator[dict[str, Any]]:
    """One line per case and batch size."""
    for (case, batch), systems in groups.items():
        regret, final = {}, {}
        longest = max(curves.shape[1] for name, (curves, _) in systems.items() if name not in BLIND)
        for name, (curves, seconds) in systems.items():
            median, low, high = band(curves)
            last = min(longest, curves.shape[1]) - 1
            final[name] = float(median[last])
            marks = {AT.index(128), last}
            regret[name] = {
                "seeds": len(curves),
                "seconds": round(float(np.median(seconds)), 2),
                **{
                    f"at_{AT[k]}": [float(f"{x:.3g}") for x in (median[k], low[k], high[k])]
                    for k in sorted(marks)
                },
            }
        line = {"case": case, "batch": batch, "regret": regret}
        peers = {
            name: value
            for name, value in final.items()
            if name.startswith("optuna")
            and len(systems[name][0]) >= MIN_SEEDS
            and systems[name][0].shape[1] >= longest
        }
        if "bayesian" in systems and peers:
            best = min(peers, key=peers.__getitem__)
            ours = np.median(systems["bayesian"][0], axis=0)
            there = np.flatnonzero(ours <= peers[best])
            share = AT[there[0]] / AT[longest - 1] if len(there) else None
            line |= {"best_peer": best, "reached": share and round(share, 3)}
        yield line


def plot(groups: Groups, path: str) -> None:
    """Write median curves with bands, a row per case and a column per batch size."""
    from plotly.subplots import make_subplots

    cases = list(dict.fromkeys(case for case, _ in groups))
    batches = sorted({batch for _, batch in groups})
    titles = [f"{case}, batch {batch}" for case in cases for batch in batches]
    figure = make_subplots(len(cases), len(batches), subplot_titles=titles)
    names = sorted({name for systems in groups.values() for name in systems})
    colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    for (case, batch), systems in groups.items():
        where = {"row": cases.index(case) + 1, "col": batches.index(batch) + 1}
        for name, (curves, _) in systems.items():
            x = list(AT[: curves.shape[1]])
            median, low, high = (np.maximum(y, FLOOR) for y in band(curves))
            style = {"legendgroup": name, "mode": "lines"}
            figure.add_scatter(
                x=x + x[::-1],
                y=[*high, *low[::-1]],
                fill="toself",
                fillcolor=colour[name],
                opacity=0.15,
                line_width=0,
                showlegend=False,
                hoverinfo="skip",
                **style,
                **where,
            )
            figure.add_scatter(
                x=x,
                y=median,
                name=name,
                line_color=colour[name],
                showlegend=where == {"row": 1, "col": 1},
                **style,
                **where,
            )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_xaxes(title="evaluations", row=len(cases))
    figure.update_yaxes(type="log", exponentformat="power", dtick=1)
    figure.update_yaxes(title="median regret", col=1)
    margin = {"l": 70, "r": 20, "t": 40, "b": 50}
    size = {"height": 260 * len(cases), "width": 360 * len(batches)}
    figure.update_layout(template="plotly_white", margin=margin, **size)
    figure.write_html(path, include_plotlyjs="cdn", config={"displayModeBar": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE.jsonl")
    parser.add_argument("--plot", metavar="FILE.html", help="draw the curves")
    args = parser.parse_args()
    groups = read(args.files)
    for line in summary(groups):
        print(json.dumps(line))
    if args.plot:
        plot(groups, args.plot)


if __name__ == "__main__":
    main()
