"""The client for asyncio: the twin of client.py, method by method."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import grpc.aio
from google.protobuf.message import Message

from headlight import analyses
from headlight.answers import Answer, Attention, Trace, answer_of, label
from headlight.channel import DEFAULT_ADDRESS, Attempts, Options, check_address
from headlight.errors import HeadlightError, closed_error, error_of
from headlight.merging import Partial, merge_request
from headlight.requests import Embeddings, Layer, QueryKeyValue, SelfAttention, fill_request, plan_request
from headlight.streaming import Assembly, Watch, messages_of, needs_stream, watching
from headlight.tensors import ArrayLike, Spec
from headlight.v1 import attention_service_pb2 as attention_pb
from headlight.v1 import layer_service_pb2 as layer_pb
from headlight.v1.analysis_service_pb2_grpc import AnalysisServiceStub
from headlight.v1.attention_service_pb2_grpc import AttentionServiceStub
from headlight.v1.layer_service_pb2_grpc import LayerServiceStub

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from headlight.analyses import CircuitsKeywords, File, PruneKeywords, TraceKeywords, UploadKeywords
    from headlight.channel import OptionKeywords
    from headlight.requests import AttendKeywords, AttentionKeywords

Response = TypeVar("Response", bound=Message)

_STATUS_SECONDS = 1.0  # that a stream's true status may take once gRPC said that a message could not be sent


def _task_is_cancelled() -> bool:
    """Whether somebody cancelled the task that asks. Before Python 3.11 a task does not know."""
    return bool(getattr(asyncio.current_task(), "cancelling", int)())


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the coroutine waits")


def _status_of(call: grpc.aio.StreamStreamCall) -> grpc.aio.AioRpcError:
    """Of a call that is done."""
    fields = (call.code(), call.initial_metadata(), call.trailing_metadata(), call.details(), call.debug_error_string())
    return grpc.aio.AioRpcError(*map(_at_once, fields))


def _verdict_of(call: grpc.aio.StreamStreamCall) -> asyncio.Future[grpc.aio.AioRpcError]:
    """What the server ends the call with. A message that cannot be sent because of that makes gRPC set INTERNAL, without
    any metadata, before the true status or over it: each has to be read in the moment in which it is set."""
    verdict = asyncio.get_running_loop().create_future()

    def look(done: grpc.aio.StreamStreamCall) -> None:
        status = _status_of(done)
        if not verdict.done() and (status.code() != grpc.StatusCode.INTERNAL or status.trailing_metadata()):
            verdict.set_result(status)

    call.add_done_callback(look)
    return verdict


async def _assemble(assembly: Assembly, call: grpc.aio.StreamStreamCall) -> None:
    """Takes all that comes. AioRpcError: what the server ended the call with. The call is over in any case."""
    verdict = _verdict_of(call)
    try:
        async for message in call:
            assembly.take(message)
    except grpc.aio.AioRpcError as failure:
        await asyncio.wait([verdict], timeout=_STATUS_SECONDS)
        status = verdict.result() if verdict.done() else failure
        if status.code() != grpc.StatusCode.OK:
            raise status from None
    finally:
        call.cancel()


class AsyncClient:
    """A connection to a server, from "HOST:PORT", "unix:PATH" or "dns:///NAME:PORT".

    For one event loop: make it there. Options are those of `headlight.Options`. Every call takes a `deadline`, too, in
    seconds. Keywords are the contract's fields, which `AttentionKeywords` and `AttendKeywords` list. Calls raise
    HeadlightError; answers have the contract's fields, with numpy arrays for tensors (`headlight.Answer`).
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, **options: Unpack[OptionKeywords]) -> None:
        """Does not connect yet; the first call does."""
        check_address(address)
        self._options = Options(**options)
        self._closed = False
        arguments = self._options.channel_arguments()
        if self._options.tls is None:
            self.channel = grpc.aio.insecure_channel(address, arguments)
        else:
            self.channel = grpc.aio.secure_channel(address, self._options.tls.credentials(), arguments)
        self.attention = AttentionServiceStub(self.channel)
        self.analysis = AnalysisServiceStub(self.channel)
        self.layers = LayerServiceStub(self.channel)

    async def close(self) -> None:
        """Ends the connection, and calls that are under way: headlight.CancelledError, as of calls after it."""
        self._closed = True
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(
        self, method: Callable[..., Awaitable[Response]], request: Message, *, deadline: float | None = None
    ) -> Response:
        """Any unary call of the stubs, by message: client.call(client.attention.Attend, request)."""
        return await self._try(Attempts(self._options, deadline), method, request)

    async def _try(self, attempts: Attempts, method: Callable[..., Any], request: Any) -> Any:
        """Until it succeeds, or there is no other attempt."""
        while True:
            try:
                return await self._attempt(method, request, attempts.timeout())
            except HeadlightError as error:
                wait = attempts.wait_after(error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def _attempt(self, method: Callable[..., Any], request: Any, timeout: float | None) -> Any:
        """One call. HeadlightError: it failed, or the client is closed."""
        if self._closed:
            raise closed_error()
        try:
            return await method(request, timeout=timeout, metadata=self._options.call_metadata())
        except grpc.RpcError as cause:
            raise error_of(cause) from cause
        except asyncio.CancelledError as cause:  # which close() brings to its calls, too
            if self._closed and not _task_is_cancelled():
                raise closed_error() from cause
            raise

    async def _attend(
        self, request: attention_pb.AttendRequest, stream: bool | None, progress: Watch, deadline: float | None
    ) -> attention_pb.AttendResponse:
        """In one message or, where asked for or needed, in chunks."""
        if not (needs_stream(request) if stream is None else stream):
            return await self.call(self.attention.Attend, request, deadline=deadline)

        async def streamed(asked: attention_pb.AttendRequest, **terms: Any) -> attention_pb.AttendResponse:
            with watching(progress) as watch:
                assembly = Assembly(watch, asked.outputs.maps)
                await _assemble(assembly, self.attention.AttendStream(messages_of(asked, watch), **terms))
            return assembly.answer()

        return await self._try(Attempts(self._options, deadline, streams=True), streamed, request)

    async def attend(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        *,
        part: tuple[int, int, int] | None = None,
        tokens: str | Iterable[str] = (),
        stream: bool | None = None,
        progress: Watch = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Attention:
        """Attention of Q, K and V: [B, H, T, D], [B, T, H x D] or [T, H x D]. `tokens` label the rows.

        `part`: (begin, end, total) where keys and values are begin .. end - 1 of a whole of `total`, for merge_partials().

        `stream`: whether the tensors go in chunks; None: where one message does not carry them. `progress` of a streamed
        call: a function that is given each headlight.Progress; None: a bar, where a person looks on and tqdm is installed.
        """
        request = attention_pb.AttendRequest()
        fill_request(request, QueryKeyValue(query, key, value, part), options, tokens)
        return label(answer_of(await self._attend(request, stream, progress, deadline)), request)

    async def attend_embeddings(
        self,
        embeddings: Embeddings,
        layer: Layer,
        *,
        context: ArrayLike | None = None,
        tokens: str | Iterable[str] = (),
        stream: bool | None = None,
        progress: Watch = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Attention:
        """Attention of embeddings [T, E] or [B, T, E] through a layer: a name, LayerWeights or SeededWeights.

        `stream` and `progress` as of attend().
        """
        request = attention_pb.AttendRequest()
        fill_request(request, SelfAttention(embeddings, layer, context), options, tokens)
        return label(answer_of(await self._attend(request, stream, progress, deadline)), request)

    async def plan(
        self,
        query: ArrayLike | Spec,
        key: ArrayLike | Spec,
        value: ArrayLike | Spec,
        *,
        part: tuple[int, int, int] | None = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Answer:
        """What attend() would compute and take, by shapes alone. What is beyond a limit stands in `violations`."""
        request = plan_request(QueryKeyValue(query, key, value, part), options)
        request.streamed = needs_stream(request)
        return answer_of(await self.call(self.attention.PlanAttention, request, deadline=deadline))

    async def plan_embeddings(
        self,
        embeddings: Embeddings | Spec,
        layer: Layer,
        *,
        context: ArrayLike | Spec | None = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Answer:
        """What attend_embeddings() would compute and take."""
        request = plan_request(SelfAttention(embeddings, layer, context), options)
        request.streamed = needs_stream(request)
        return answer_of(await self.call(self.attention.PlanAttention, request, deadline=deadline))

    async def compare(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        *,
        part: tuple[int, int, int] | None = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Answer:
        """Naive, flash and a double-precision reference on one input, and how far apart they are."""
        request = fill_request(attention_pb.CompareAlgorithmsRequest(), QueryKeyValue(query, key, value, part), options)
        return answer_of(await self.call(self.attention.CompareAlgorithms, request, deadline=deadline))

    async def compare_embeddings(
        self,
        embeddings: Embeddings,
        layer: Layer,
        *,
        context: ArrayLike | None = None,
        deadline: float | None = None,
        **options: Unpack[AttendKeywords],
    ) -> Answer:
        """The same of embeddings through a layer."""
        request = fill_request(
            attention_pb.CompareAlgorithmsRequest(), SelfAttention(embeddings, layer, context), options
        )
        return answer_of(await self.call(self.attention.CompareAlgorithms, request, deadline=deadline))

    async def merge_partials(
        self,
        partials: Iterable[Partial],
        *,
        sinks: Sequence[float] = (),
        head_gains: Sequence[float] = (),
        output_weights: ArrayLike | None = None,
        output_bias: ArrayLike | None = None,
        tensor_kind: Literal["f32", "f16", "bf16"] | None = None,
        priority: Literal["interactive", "batch"] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Attention to all keys, `output` and `log_sum_exp`, from attention to parts of them: answers of
        attend(part=..., log_sum_exp=True), or pairs of output and log-sum-exp. headlight.merge_partials() needs no server.
        """
        request = merge_request(
            partials, sinks, head_gains, output_weights, output_bias, tensor_kind=tensor_kind, priority=priority
        )
        return answer_of(await self.call(self.attention.MergePartials, request, deadline=deadline))

    async def get_demo(self, *, deadline: float | None = None) -> Answer:
        """The sentence of the built-in layer "demo": `layer`, `tokens`, `embeddings`."""
        return answer_of(await self.call(self.attention.GetDemo, attention_pb.GetDemoRequest(), deadline=deadline))

    async def get_server_info(self, *, deadline: float | None = None) -> Answer:
        """What the server is, and every limit it holds."""
        request = attention_pb.GetServerInfoRequest()
        return answer_of(await self.call(self.attention.GetServerInfo, request, deadline=deadline))

    async def analyze_heads(
        self,
        sequences: Iterable[ArrayLike | analyses.HeadSequence],
        layer: Layer,
        *,
        cluster_distance: float | None = None,
        deadline: float | None = None,
        **options: Unpack[AttentionKeywords],
    ) -> Answer:
        """What a layer's heads do on texts [T, E], in numbers and in words."""
        request = analyses.analyze_heads_request(sequences, layer, cluster_distance, options)
        return answer_of(await self.call(self.analysis.AnalyzeHeads, request, deadline=deadline))

    async def ablate_heads(
        self,
        embeddings: ArrayLike,
        layer: Layer,
        heads: Iterable[int] = (),
        *,
        mode: Literal["zero", "mean"],
        deadline: float | None = None,
        **options: Unpack[AttentionKeywords],
    ) -> Answer:
        """A layer's output without some heads, what each head's loss changes, and which are redundant."""
        request = analyses.ablate_heads_request(embeddings, layer, heads, mode, options)
        return answer_of(await self.call(self.analysis.AblateHeads, request, deadline=deadline))

    async def analyze_circuits(
        self, layer: str, *, deadline: float | None = None, **options: Unpack[CircuitsKeywords]
    ) -> Answer:
        """The query-key and output-value circuits of a named layer's heads."""
        request = analyses.analyze_circuits_request(layer, options)
        return answer_of(await self.call(self.analysis.AnalyzeCircuits, request, deadline=deadline))

    async def trace_stack(
        self,
        stack: str,
        tokens: str | Iterable[str] = (),
        *,
        deadline: float | None = None,
        **options: Unpack[TraceKeywords],
    ) -> Trace:
        """Runs a stack over a text: its maps, its bets on the next token, and what each head adds to one."""
        request = analyses.trace_stack_request(stack, tokens, options)
        return answer_of(await self.call(self.analysis.TraceStack, request, deadline=deadline))

    async def list_layers(self, *, deadline: float | None = None) -> Answer:
        """Every layer and stack, by name."""
        return answer_of(await self.call(self.layers.ListLayers, layer_pb.ListLayersRequest(), deadline=deadline))

    async def get_layer(self, name: str, *, include_weights: bool = False, deadline: float | None = None) -> Answer:
        """One layer or stack, with a layer's matrices if asked."""
        request = layer_pb.GetLayerRequest(name=name, include_weights=include_weights)
        return answer_of(await self.call(self.layers.GetLayer, request, deadline=deadline))

    async def upload_layer(
        self, file: File, name: str, *, deadline: float | None = None, **options: Unpack[UploadKeywords]
    ) -> Answer:
        """Sends a safetensors file: its path, an open one, or its bytes. Tried again by gRPC alone."""
        timeout = Attempts(self._options, deadline).timeout()
        requests = analyses.upload_requests(file, name, options)
        return answer_of(await self._attempt(self.layers.UploadLayer, requests, timeout))

    async def prune_layer(
        self,
        layer: str,
        heads: Iterable[int],
        name: str,
        *,
        deadline: float | None = None,
        **options: Unpack[PruneKeywords],
    ) -> Answer:
        """Saves a layer from which heads are really removed."""
        request = analyses.prune_layer_request(layer, heads, name, options)
        return answer_of(await self.call(self.layers.PruneLayer, request, deadline=deadline))

    async def delete_layer(self, name: str, *, deadline: float | None = None) -> Answer:
        """Forgets what a file brought."""
        request = layer_pb.DeleteLayerRequest(name=name)
        return answer_of(await self.call(self.layers.DeleteLayer, request, deadline=deadline))
