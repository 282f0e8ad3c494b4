"""Draws loss.csv as loss.svg."""

import csv
import io
import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "induction", "font.size": 9, "font.sans-serif": ["DejaVu Sans"]}
)

from matplotlib import pyplot  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def main():
    with (HERE / "loss.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure, axes = pyplot.subplots(figsize=(6, 2.8), layout="constrained")
    axes.plot(steps, [float(row["loss"]) for row in rows], color="#b3541e", label="loss")
    axes.set(xlabel="step", ylabel="loss (nats)", ylim=(0, None))
    right = axes.twinx()
    right.plot(steps, [float(row["repeat_accuracy"]) for row in rows], color="#1f6f8b", label="accuracy on repeats")
    right.set(ylabel="accuracy on repeats", ylim=(0, 1))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    drawing = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawing, format="svg", metadata=nothing)
    lines = [line.rstrip() + "\n" for line in drawing.getvalue().splitlines()]
    (HERE / "loss.svg").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
