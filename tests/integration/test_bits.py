"""The same request has the same bits: alone or in a crowd, alone or in a batch, with one thread or two."""

from concurrent.futures import ThreadPoolExecutor

import make
import numpy as np
import pytest
from make import HALVES, TOP_LEFT, Sizes, embeddings, everything, qkv, with_algorithm
from wire import BF16, FLASH, array, outputs_pb, service_pb, tensor


def shown_at(request: service_pb.AttendRequest, stage: int) -> service_pb.AttendRequest:
    """Maps of every form, at a stage, and no more: rows and heads are few, keys all."""
    request.outputs.log_sum_exp = True
    for form in ("full", "pooled", "column_sums"):
        selection = request.outputs.maps.add(heads=[1], stage=stage)
        selection.rows.add(begin=100, end=120)
        getattr(selection, form).SetInParent()
        if form == "pooled":
            selection.pooled.CopyFrom(outputs_pb.PooledMap(rows=4, columns=4, reducer=outputs_pb.POOL_REDUCER_MEAN))
    return request


def long_with_short_keys() -> list[service_pb.AttendRequest]:
    """Long enough that keys are packed, which end within a tile; every stage of maps shows keys beyond the end."""
    rng = np.random.default_rng(13)
    made = []
    for stage in (outputs_pb.MAP_STAGE_WEIGHTS, outputs_pb.MAP_STAGE_SCALED, outputs_pb.MAP_STAGE_SOFTCAPPED):
        request = qkv(rng, Sizes(heads=8, key_heads=2, tokens=1024, keys=1100, size=64))
        request.options.mask.key_lengths.append(600)
        made.append(with_algorithm(shown_at(request, stage), FLASH))
    return made


def requests() -> list[service_pb.AttendRequest]:
    """Problems of one tile, of many, with tails, of other kinds, with and without a layer."""
    rng = np.random.default_rng(11)
    turned = qkv(rng, Sizes(heads=4, key_heads=2, tokens=130, keys=130, size=16, batch=2))
    turned.options.position.rotary.layout = HALVES
    turned.options.mask.causal.alignment = TOP_LEFT
    return [
        qkv(rng, Sizes(tokens=5)),
        qkv(rng, Sizes(heads=3, tokens=130, keys=1100, size=64)),
        qkv(rng, Sizes(heads=2, tokens=70, keys=90, size=24, kind=BF16), rank=3),
        turned,
        embeddings(rng, Sizes(heads=4, tokens=150, size=16, batch=2)),
        make.canary(),
    ]


@pytest.fixture(scope="module")
def asked() -> list[service_pb.AttendRequest]:
    return [everything(with_algorithm(r, a)) for r in requests() for a in (0, 1, 2)] + long_with_short_keys()


@pytest.fixture(scope="module")
def alone(server, asked) -> list[bytes]:
    return [make.bits(server.attend(request)) for request in asked]


def test_again(server, asked, alone) -> None:
    assert [make.bits(server.attend(request)) for request in asked] == alone


def test_under_concurrency(server, asked, alone) -> None:
    order = np.random.default_rng(12).permutation(np.repeat(np.arange(len(asked)), 6))
    with ThreadPoolExecutor(12) as crowd:
        answers = list(crowd.map(lambda i: make.bits(server.attend(asked[i])), order))
    different = [int(i) for i, got in zip(order, answers, strict=True) if got != alone[i]]
    assert different == []


@pytest.mark.parametrize("threads", [1, 3])
def test_with_another_number_of_threads(start, asked, alone, threads) -> None:
    other = start(f"--threads={threads}")
    assert other.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10).threads == threads
    assert [make.bits(other.attend(request)) for request in asked] == alone


def test_whatever_was_in_memory(start, asked, alone) -> None:
    """glibc fills what it gives with -6.0 and what it takes with 0.75: nothing may be read before it is written."""
    other = start("--threads=2", env={"GLIBC_TUNABLES": "glibc.malloc.perturb=63"})
    assert [make.bits(other.attend(request)) for request in asked] == alone


def one_of_the_batch(request: service_pb.AttendRequest, index: int) -> service_pb.AttendRequest:
    """The request with one batch of its three."""
    single = service_pb.AttendRequest()
    single.CopyFrom(request)
    tensors = [single.query_key_value.query, single.query_key_value.key, single.query_key_value.value]
    if request.WhichOneof("input") == "self_attention":
        tensors = [single.self_attention.embeddings]
    for one in tensors:
        one.CopyFrom(tensor(array(one)[index : index + 1]))
    if request.options.mask.key_lengths:
        del single.options.mask.key_lengths[:]
        single.options.mask.key_lengths.append(request.options.mask.key_lengths[index])
    return single


def batched(rng: np.random.Generator, form: str) -> service_pb.AttendRequest:
    sizes = Sizes(heads=2, tokens=70, keys=70, size=16, batch=3)
    if form == "embeddings":
        return embeddings(rng, sizes)
    request = qkv(rng, sizes, rank=3 if form == "rank_3" else 4)
    if form == "lengths":
        request.options.mask.key_lengths.extend([70, 33, 1])
    return request


@pytest.mark.parametrize("form", ["rank_4", "rank_3", "lengths", "embeddings"])
def test_alone_and_inside_a_batch(server, rng, algorithm, form) -> None:
    request = everything(with_algorithm(batched(rng, form), algorithm))
    whole = server.attend(request)
    for index in range(3):
        single = server.attend(one_of_the_batch(request, index))
        for name in ("output", "log_sum_exp", "head_outputs"):
            assert np.array_equal(array(getattr(whole, name))[index], array(getattr(single, name))[0]), name
        own = [m.weights for m in whole.maps if m.batch == index]
        assert own == [m.weights for m in single.maps]


def test_asking_for_more_does_not_change_the_output(server, asked) -> None:
    for request in asked:
        plain = service_pb.AttendRequest()
        plain.CopyFrom(request)
        plain.ClearField("outputs")
        if plain.options.algorithm:
            assert server.attend(plain).output == server.attend(request).output
