"""Calls a server with Triton's own client, unchanged: `triton_client.py HOST:PORT` ends with 0 if all was right."""

import asyncio
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (RNG.standard_normal((2, 4, 10, 16)).astype(np.float32) for _ in range(3))


def reference(causal: bool) -> np.ndarray:
    """Scaled dot-product attention in float64."""
    scores = QUERY.astype(np.float64) @ KEY.astype(np.float64).swapaxes(2, 3) / np.sqrt(16)
    if causal:
        scores = np.where(np.tril(np.ones((10, 10), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ VALUE


def inputs(module, kind: str = "FP32") -> list:
    """The three tensors as the client takes them."""
    made = []
    for name, array in (("query", QUERY), ("key", KEY), ("value", VALUE)):
        made.append(module.InferInput(name, list(array.shape), kind))
        made[-1].set_data_from_numpy(array.astype(np.float16) if kind == "FP16" else array)
    return made


def check_server(client: triton.InferenceServerClient) -> None:
    """What tools ask first."""
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("attention")
    metadata = client.get_model_metadata("attention")
    assert [tensor.name for tensor in metadata.inputs] == ["query", "key", "value", "mask"]


def check_infer(client: triton.InferenceServerClient) -> None:
    """An output and the weights, with parameters and an id."""
    outputs = [triton.InferRequestedOutput("output"), triton.InferRequestedOutput("weights")]
    result = client.infer("attention", inputs(triton), outputs=outputs, request_id="7", parameters={"causal": True})
    assert result.get_response().id == "7"
    np.testing.assert_allclose(result.as_numpy("output"), reference(causal=True), rtol=0, atol=1e-5)
    np.testing.assert_allclose(result.as_numpy("weights").sum(-1), 1, atol=1e-5)
    assert np.all(result.as_numpy("weights")[..., 0, 1:] == 0)


def check_half(client: triton.InferenceServerClient) -> None:
    """FP16 in, FP16 out."""
    output = client.infer("attention", inputs(triton, "FP16")).as_numpy("output")
    assert output.dtype == np.float16
    np.testing.assert_allclose(output, reference(causal=False), rtol=0, atol=4e-3)


def check_callbacks(client: triton.InferenceServerClient) -> None:
    """Calls that do not wait, one of which fails."""
    answers: queue.Queue = queue.Queue()
    for _ in range(8):
        client.async_infer("attention", inputs(triton), lambda result, error: answers.put((result, error)))
    for _ in range(8):
        result, error = answers.get(timeout=20)
        assert error is None
        np.testing.assert_allclose(result.as_numpy("output"), reference(causal=False), rtol=0, atol=1e-5)
    try:
        client.infer("attention", inputs(triton)[:2])
        raise AssertionError("no value and no error")
    except triton.InferenceServerException as error:
        assert "inputs.value" in error.message()


async def check_asyncio(address: str) -> None:
    """The client's asyncio twin."""
    async with triton_aio.InferenceServerClient(address) as client:
        result = await client.infer("attention", inputs(triton_aio))
        np.testing.assert_allclose(result.as_numpy("output"), reference(causal=False), rtol=0, atol=1e-5)


def main(address: str) -> None:
    """Runs every check."""
    checks = (check_server, check_infer, check_half, check_callbacks)
    with triton.InferenceServerClient(address) as client:
        for check in checks:
            check(client)
    asyncio.run(check_asyncio(address))
    print(f"Triton's client: {len(checks) + 1} of {len(checks) + 1}")


if __name__ == "__main__":
    main(*sys.argv[1:])
