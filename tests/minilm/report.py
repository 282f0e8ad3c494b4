#!/usr/bin/env python3
"""What the 72 heads of all-MiniLM-L6-v2 do: their habits in words, some of their maps, and how many of them can go.

Usage: report.py [--svg FILE] [--json FILE]. `./dev minilm report` runs it in the environment that it needs.
"""

import argparse
import json
import os
import sys
import tempfile
from html import escape
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import stubs

stubs.generate()

import numpy as np
from encoder import HEADS, LAYERS, SENTENCES, Encoder, Reading, lay_out
from headlight.v1 import analysis_service_pb2 as analysis_pb
from headlight.v1 import analysis_service_pb2_grpc as analysis_grpc
from server_process import Server
from wire import array, outputs_pb, service_pb, tensor

CELL, LABEL, GAP, ACROSS = 11, 60, 26, 4
STYLE = """
  svg { color-scheme: light dark; font: 10px system-ui, sans-serif; --text: #1f2328; --paper: #ffffff; --frame: #d1d9e0;
    --ink: #0969da; }
  @media (prefers-color-scheme: dark) { svg { --text: #e6edf3; --paper: #0d1117; --frame: #3d444d; --ink: #58a6ff; } }
  .paper { fill: var(--paper); } text { fill: var(--text); } .title { font-size: 12px; font-weight: 600; }
  .frame { fill: none; stroke: var(--frame); } .cell { fill: var(--ink); }
"""

Head = tuple[int, int]
# Fields of AttentionShares, in words.
LOOKS = {
    "previous": "one step back",
    "same": "at itself",
    "first": "at [CLS]",
    "last": "at [SEP]",
    "duplicate": "at the same word before",
    "induction": "after the same word",
}


def analyse(stub, readings: list[Reading]) -> dict[Head, analysis_pb.HeadReport]:
    """Each head over all sentences."""
    reports = {}
    for layer in range(LAYERS):
        request = analysis_pb.AnalyzeHeadsRequest(layer=f"minilm/{layer}")
        for reading in readings:
            request.sequences.add(embeddings=tensor(reading.states[layer]), token_ids=reading.ids)
        for head in stub.AnalyzeHeads(request, timeout=60).heads:
            reports[layer, head.head] = head
    return reports


def losses(stub, readings: list[Reading]) -> dict[Head, float]:
    """What each head's loss changes in its layer's output, relative L2, the mean over all sentences."""
    changes: dict[Head, list[float]] = {}
    for layer in range(LAYERS):
        for reading in readings:
            request = analysis_pb.AblateHeadsRequest(
                layer=f"minilm/{layer}", embeddings=tensor(reading.states[layer]), mode=analysis_pb.ABLATION_MODE_ZERO
            )
            for loss in stub.AblateHeads(request, timeout=60).losses:
                changes.setdefault((layer, loss.head), []).append(loss.change.relative_l2)
    return {head: float(np.mean(each)) for head, each in changes.items()}


def neighbours(embeddings: np.ndarray) -> list[int]:
    """Of each sentence, the nearest other one by cosine."""
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -2)
    return likeness.argmax(1).tolist()


def prune(stub, encoder: Encoder, readings: list[Reading], order: list[Head]) -> int:
    """How many heads of `order` can go, from the first, before any sentence's nearest neighbour changes."""

    def nearest(count: int) -> list[int]:
        off = order[:count]
        return neighbours(np.stack([encoder.embed(stub, reading.states[0], off) for reading in readings]))

    whole = nearest(0)
    for count in range(1, len(order) + 1):
        if nearest(count) != whole:
            return count - 1
    return len(order)


def picture(reading: Reading, maps: dict[Head, np.ndarray], titles: dict[Head, str]) -> str:
    """Maps side by side: rows look, columns are looked at; the darker, the more weight."""
    size = CELL * len(reading.tokens)
    width, height = LABEL + size + GAP, size + GAP
    rows = -(-len(maps) // ACROSS)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * ACROSS} {height * rows + GAP}" role="img">',
        f"<title>Where heads of all-MiniLM-L6-v2 look</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{width * ACROSS}" height="{height * rows + GAP}"/>',
    ]
    for place, (head, map_) in enumerate(maps.items()):
        left, top = place % ACROSS * width + LABEL, place // ACROSS * height + GAP
        out.append(f'<text class="title" x="{left - LABEL + 8}" y="{top - 7}">{escape(titles[head])}</text>')
        out.append(f'<rect class="frame" x="{left}" y="{top}" width="{size}" height="{size}"/>')
        for i, token in enumerate(reading.tokens):
            out.append(f'<text x="{left - 5}" y="{top + i * CELL + 9}" text-anchor="end">{escape(token)}</text>')
            for j in np.flatnonzero(map_[i] >= 0.03):
                cell = f'x="{left + j * CELL}" y="{top + i * CELL}" width="{CELL}" height="{CELL}"'
                out.append(f'<rect class="cell" {cell} opacity="{map_[i][j]:.2f}"/>')
    return "\n".join([*out, "</svg>\n"])


def maps_of(stub, reading: Reading, heads: list[Head]) -> dict[Head, np.ndarray]:
    maps = {}
    for layer, head in heads:
        request = service_pb.AttendRequest()
        request.self_attention.embeddings.CopyFrom(tensor(reading.states[layer]))
        request.self_attention.layer = f"minilm/{layer}"
        request.outputs.maps.append(outputs_pb.WeightMaps(heads=[head], full=outputs_pb.FullMap()))
        maps[layer, head] = array(stub.Attend(request, timeout=60).maps[0].weights)
    return maps


def strongest(reports: dict[Head, analysis_pb.HeadReport]) -> dict[Head, str]:
    """Of each kind of look, the two heads that look so most, and in words how much."""
    found: dict[Head, str] = {}
    for name, words in LOOKS.items():
        share = {head: getattr(report.shares, name) for head, report in reports.items()}
        for head in sorted(share, key=share.get, reverse=True)[:2]:
            found.setdefault(head, f"{words} {share[head]:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--svg", type=Path, help="where the maps of the strongest heads go")
    parser.add_argument("--json", type=Path, help="where all numbers go")
    arguments = parser.parse_args()
    encoder = Encoder()
    readings = [encoder.read(sentence) for sentence in SENTENCES]
    with tempfile.TemporaryDirectory() as layers:
        lay_out(Path(layers))
        server = Server("--threads=2", f"--layers={layers}")
        try:
            analysis = analysis_grpc.AnalysisServiceStub(server.channel)
            reports = analyse(analysis, readings)
            for (layer, head), report in reports.items():
                if report.habit != analysis_pb.HABIT_NONE:
                    print(f"layer {layer} head {head:2}: {report.description}")
            print(f"{sum(r.habit == analysis_pb.HABIT_NONE for r in reports.values())} of 72 heads show no clear habit")
            looks = strongest(reports)
            for (layer, head), words in looks.items():
                print(f"strongest: layer {layer} head {head:2}: {words}")
            lost = losses(analysis, readings)
            order = sorted(lost, key=lost.get)
            gone = prune(server.stub, encoder, readings, order)
            print(
                f"{gone} of 72 heads can go, those first whose loss changes their layer's output least, before the "
                f"nearest neighbour of one of {len(SENTENCES)} sentences changes"
            )
            if arguments.svg:
                maps = maps_of(server.stub, readings[0], list(looks))
                titles = {head: f"{head[0]}.{head[1]} {words}" for head, words in looks.items()}
                arguments.svg.write_text(picture(readings[0], maps, titles))
            if arguments.json:
                heads = [
                    {"layer": layer, "head": head, "description": report.description, "loss": lost[layer, head]}
                    for (layer, head), report in reports.items()
                ]
                arguments.json.write_text(json.dumps({"heads": heads, "order": order, "can_go": gone}, indent=1))
        finally:
            server.close()


if __name__ == "__main__":
    main()
