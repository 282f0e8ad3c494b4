"""What the server says of itself: GetServerInfo, health, reflection, metrics and probes."""

import re
from functools import partial

import grpc
import make
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from make import Sizes, qkv
from rpc_errors import failure_of
from server_process import run_server, wait_until
from wire import FLASH, NAIVE, service_pb

SERVICE = "headlight.v1.AttentionService"
SERVING = health_pb2.HealthCheckResponse.SERVING
LIMITS = {
    "max_batch": 64,
    "max_heads": 128,
    "max_head_size": 512,
    "max_width": 16384,
    "max_tokens": 16384,
    "max_tensor_elements": 2**28,
    "max_flops": 20_000_000_000_000,
    "max_map_requests": 8,
    "max_row_ranges": 64,
    "max_top_keys": 1024,
    "max_string_bytes": 128,
    "max_receive_bytes": 128 << 20,
    "max_response_bytes": 256 << 20,
    "max_calls": 1024,
    "max_call_milliseconds": 100_000_000,
    "max_wait_milliseconds": 1_000_000,
}
FAMILIES = {
    "grpc_server_started_total": "counter",
    "grpc_server_handled_total": "counter",
    "grpc_server_handling_seconds": "histogram",
    "headlight_stage_seconds": "histogram",
    "headlight_attend_seconds": "histogram",
    "headlight_tokens_total": "counter",
    "headlight_flops_total": "counter",
    "headlight_weight_map_bytes_total": "counter",
    "headlight_score_grid_saved_bytes_total": "counter",
    "headlight_sequence_length": "histogram",
    "headlight_request_flops": "histogram",
    "headlight_errors_total": "counter",
    "headlight_cancelled_total": "counter",
    "headlight_wasted_flops_total": "counter",
    "headlight_cancel_latency_seconds": "histogram",
    "headlight_admission_total": "counter",
    "headlight_queue_wait_seconds": "histogram",
    "headlight_queue_length": "gauge",
    "headlight_queue_length_limit": "gauge",
    "headlight_backlog_seconds": "gauge",
    "headlight_backlog_seconds_limit": "gauge",
    "headlight_cost_estimate_ratio": "histogram",
    "headlight_memory_reserved_bytes": "gauge",
    "headlight_memory_budget_bytes": "gauge",
    "headlight_workspace_bytes": "gauge",
    "headlight_workspace_peak_bytes": "gauge",
    "headlight_workers": "gauge",
    "headlight_workers_busy": "gauge",
    "headlight_worker_busy_seconds_total": "counter",
    "headlight_build_info": "gauge",
    "headlight_limit": "gauge",
    "headlight_ready": "gauge",
    "headlight_draining": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_cpu_seconds_total": "counter",
    "process_open_fds": "gauge",
    "process_start_time_seconds": "gauge",
}


@pytest.fixture
def info(server) -> service_pb.GetServerInfoResponse:
    return server.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)


# GetServerInfo.


def test_limits(info) -> None:
    limits = {limit.name: limit.value for limit in info.limits}
    assert len(limits) == len(info.limits)
    assert {name: limits.get(name) for name in LIMITS} == LIMITS


def test_limits_follow_the_flags(start) -> None:
    other = start("--threads=1", "--max-receive-bytes=1000000", "--max-response-bytes=2000000")
    answer = other.stub.GetServerInfo(service_pb.GetServerInfoRequest(), timeout=10)
    limits = {limit.name: limit.value for limit in answer.limits}
    assert (limits["max_receive_bytes"], limits["max_response_bytes"]) == (1_000_000, 2_000_000)


def test_what_it_is(info) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", info.version)
    assert info.version in run_server("--version").stdout
    assert info.threads == 2
    assert list(info.layers) == ["demo", "induction/0", "induction/1"]
    assert info.cpu_target == info.available_cpu_targets[0]
    assert set(info.available_cpu_targets) <= {"avx512", "avx2", "sse4", "neon", "baseline"}
    assert set(info.library_versions) >= {"oneDNN", "gRPC", "protobuf", "highway", "abseil"}
    assert all(re.match(r"\d", version) for version in info.library_versions.values())


# Health and reflection.


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_check(server, service) -> None:
    answer = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    assert answer.status == SERVING


def test_health_of_an_unknown_service(server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    failure = failure_of(lambda: stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5))
    assert failure.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_watch(server, service) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=5)
    assert next(watch).status == SERVING
    watch.cancel()


def test_reflection_lists_the_services(server) -> None:
    database = ProtoReflectionDescriptorDatabase(server.channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
    file = database.FindFileContainingSymbol(f"{SERVICE}.Attend")
    assert [s.name for s in file.service] == ["AttentionService"]
    methods = {"Attend", "AttendStream", "PlanAttention", "CompareAlgorithms", "MergePartials", "GetDemo", "GetServerInfo"}
    assert {m.name for m in file.service[0].method} == methods


def test_every_service_that_is_listed_can_be_described(server) -> None:
    database = ProtoReflectionDescriptorDatabase(server.channel)
    for name in database.get_services():
        file = database.FindFileContainingSymbol(name)
        assert name.rpartition(".")[2] in [service.name for service in file.service], name


# The messages are v1alpha's, under another name.
V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def ask_v1(server, *questions: reflection_pb2.ServerReflectionRequest) -> list[reflection_pb2.ServerReflectionResponse]:
    call = server.channel.stream_stream(
        V1,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(questions), timeout=10))


def test_reflection_v1_says_what_v1alpha_says(server) -> None:
    ask = reflection_pb2.ServerReflectionRequest
    extension = reflection_pb2.ExtensionRequest(containing_type="google.protobuf.FieldOptions", extension_number=7)
    questions = [
        ask(host="h", list_services=""),
        ask(file_containing_symbol=f"{SERVICE}.Attend"),
        ask(file_by_filename="headlight/v1/outputs.proto"),
        ask(file_containing_symbol="no.such.Symbol"),
        ask(file_containing_extension=extension),
        ask(all_extension_numbers_of_type="headlight.v1.Tensor"),
    ]
    alpha = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo(iter(questions), timeout=10)
    for one, other in zip(ask_v1(server, *questions), alpha, strict=True):
        assert one.WhichOneof("message_response") == other.WhichOneof("message_response")
        assert one.error_response.error_code == other.error_response.error_code
        assert one.all_extension_numbers_response == other.all_extension_numbers_response
        assert {s.name for s in one.list_services_response.service} == {s.name for s in other.list_services_response.service}
        ours, theirs = (set(answer.file_descriptor_response.file_descriptor_proto) for answer in (one, other))
        assert ours <= theirs  # v1alpha of gRPC 1.51 repeats what it sent before


def test_reflection_v1_answers_every_file_with_its_imports(server) -> None:
    question = reflection_pb2.ServerReflectionRequest(host="me", file_containing_symbol="inference.GRPCInferenceService")
    nothing = reflection_pb2.ServerReflectionRequest()
    file, refused = ask_v1(server, question, nothing)
    assert file.valid_host == "me" and file.original_request == question
    names = [descriptor_pb2.FileDescriptorProto.FromString(raw).name for raw in file.file_descriptor_response.file_descriptor_proto]
    assert names == ["inference/open_inference.proto"]
    assert refused.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    (of_ours,) = ask_v1(server, reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{SERVICE}.Attend"))
    files = [descriptor_pb2.FileDescriptorProto.FromString(raw) for raw in of_ours.file_descriptor_response.file_descriptor_proto]
    assert {imported for file in files for imported in file.dependency} <= {file.name for file in files}


def test_reflection_can_be_switched_off(start) -> None:
    quiet = start("--threads=1", "--reflection=false")
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    assert failure_of(lambda: ask_v1(quiet, question)).code == grpc.StatusCode.UNIMPLEMENTED
    database = ProtoReflectionDescriptorDatabase(quiet.channel)
    assert failure_of(database.get_services).code == grpc.StatusCode.UNIMPLEMENTED
    assert quiet.attend(make.canary()).HasField("output")


# Metrics and probes.


def test_families(server) -> None:
    metrics = server.metrics()
    assert {name: metrics.types.get(name) for name in FAMILIES} == FAMILIES
    assert len(metrics.samples) <= 1500


def test_series_start_at_zero(start) -> None:
    metrics = start("--threads=1").metrics()
    for method in ("Attend", "PlanAttention", "CompareAlgorithms", "MergePartials", "GetDemo", "GetServerInfo"):
        labels = {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": "unary"}
        assert metrics.value("grpc_server_started_total", **labels) == 0
        for code in ("OK", "InvalidArgument", "NotFound", "Unimplemented", "Cancelled", "DeadlineExceeded"):
            assert metrics.value("grpc_server_handled_total", grpc_code=code, **labels) == 0
    for reason in ("invalid_request", "request_too_expensive", "response_too_large", "layer_not_found"):
        assert metrics.value("headlight_errors_total", reason=reason) == 0
    assert metrics.value("headlight_ready") == 1
    assert metrics.value("headlight_draining") == 0
    assert metrics.value("headlight_workers") == 1


def handled(server, method: str, code: str) -> float:
    return server.metrics().value("grpc_server_handled_total", grpc_method=method, grpc_code=code)


def wait_handled(server, method: str, code: str, count: float) -> None:
    """A call's answer may be read a moment before it is counted."""
    wait_until(lambda: handled(server, method, code) == count)


def bad_shape() -> service_pb.AttendRequest:
    return service_pb.AttendRequest()


def unknown_layer() -> service_pb.AttendRequest:
    request = make.seeded(tokens=2, width=4, heads=1)
    request.self_attention.layer = "nobody's"
    return request


def bad_value() -> service_pb.AttendRequest:
    request = make.seeded(tokens=2, width=4, heads=1)
    request.self_attention.layer = "demo"
    request.self_attention.embeddings.shape.extend([1, 16])
    request.self_attention.embeddings.f32_le = b"\xff" * 64
    request.options.query_heads = 3
    return request


REFUSED = {
    "InvalidArgument": [(bad_shape, "invalid_request"), (bad_value, "invalid_request")],
    "NotFound": [(unknown_layer, "layer_not_found")],
}


@pytest.mark.parametrize("method", ["Attend", "CompareAlgorithms"])
@pytest.mark.parametrize("code", REFUSED)
def test_refusals_are_counted_by_method_code_and_reason(server, method, code) -> None:
    call = server.attend if method == "Attend" else server.compare
    for maker, reason in REFUSED[code]:
        before = server.metrics()
        failure_of(partial(call, maker()))
        count = before.value("grpc_server_handled_total", grpc_method=method, grpc_code=code)
        wait_handled(server, method, code, count + 1)
        after = server.metrics()
        for name, labels in {
            "grpc_server_started_total": {"grpc_method": method},
            "grpc_server_handling_seconds_count": {"grpc_method": method},
            "headlight_errors_total": {"reason": reason},
        }.items():
            assert after.value(name, **labels) == before.value(name, **labels) + 1, name


@pytest.mark.parametrize("algorithm", [NAIVE, FLASH], ids=["naive", "flash"])
def test_a_call_is_counted_with_what_it_did(server, rng, algorithm) -> None:
    request = make.with_algorithm(qkv(rng, Sizes(heads=2, tokens=70, keys=200, batch=2)), algorithm)
    request.outputs.maps.append(make.full_map(heads=[0]))
    before = server.metrics()
    answer = server.attend(request)
    count = before.value("grpc_server_handled_total", grpc_method="Attend", grpc_code="OK")
    wait_handled(server, "Attend", "OK", count + 1)
    after = server.metrics()

    def grown(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    label = {NAIVE: "naive", FLASH: "flash"}[algorithm]
    assert grown("headlight_tokens_total", side="query") == 140
    assert grown("headlight_tokens_total", side="key") == 400
    assert grown("headlight_flops_total", algorithm=label) == answer.execution.flops
    assert grown("headlight_attend_seconds_count", algorithm=label, size_class="small") == 1
    assert grown("headlight_sequence_length_sum") == 200
    assert grown("headlight_request_flops_sum") == answer.execution.flops
    assert grown("headlight_weight_map_bytes_total") >= 2 * 70 * 200 * 4
    saved = answer.execution.score_grid_bytes if algorithm == FLASH else 0
    assert grown("headlight_score_grid_saved_bytes_total") == saved
    for stage in ("decode", "queue", "project", "attend", "maps", "encode"):
        assert grown("headlight_stage_seconds_count", stage=stage) == 1, stage
    assert grown("headlight_worker_busy_seconds_total") > 0
    assert after.value("headlight_workspace_peak_bytes") >= answer.execution.workspace_bytes


@pytest.mark.parametrize("method", ["GetDemo", "GetServerInfo"])
def test_questions_are_counted(server, method) -> None:
    before = handled(server, method, "OK")
    getattr(server.stub, method)(getattr(service_pb, f"{method}Request")(), timeout=5)
    wait_handled(server, method, "OK", before + 1)


def test_health_calls_are_not_counted(server) -> None:
    before = server.metrics().value("grpc_server_started_total")
    health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert server.metrics().value("grpc_server_started_total") == before


def test_nothing_is_held_at_idle(server, rng) -> None:
    server.attend(make.everything(qkv(rng, Sizes(tokens=300))))
    wait_until(lambda: server.metrics().value("headlight_workers_busy") == 0)
    wait_until(lambda: server.metrics().value("headlight_workspace_bytes") == 0)


def test_build_info_and_limits_are_those_of_server_info(server, info) -> None:
    metrics = server.metrics()
    assert metrics.value("headlight_build_info", version=info.version, cpu_target=info.cpu_target) == 1
    for limit in info.limits:
        assert metrics.value("headlight_limit", name=limit.name) == limit.value


def test_histograms_are_cumulative(server, rng) -> None:
    server.attend(qkv(rng))
    samples = [s for s in server.metrics().samples if s[0] == "headlight_sequence_length_bucket"]
    counts = [value for _, _, value in samples]
    assert len(counts) > 5 and counts == sorted(counts)
    assert samples[-1][1]["le"] == "+Inf"
    assert counts[-1] == server.metrics().value("headlight_sequence_length_count") > 0


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/"])
def test_pages(server, path) -> None:
    status, text = server.page(path)
    assert status == 200
    assert text


def test_an_unknown_page(server) -> None:
    assert server.page("/nothing")[0] == 404
