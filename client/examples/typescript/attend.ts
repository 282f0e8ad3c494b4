// Sends golden requests to a Headlight server and compares its answers: node dist/attend.js URL GRPC-URL FILE...
// The calls go over HTTP, by the Connect protocol: all but the files works in a browser as it stands. The streamed one
// goes over gRPC, from Node: a browser cannot send and receive at once.
import { readFileSync } from "node:fs";
import { fromJson, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createConnectTransport } from "@connectrpc/connect-web";
import {
  AttendRequestSchema,
  AttendResponseSchema,
  AttentionService,
  StreamedTensor,
  type AttendRequest,
  type AttendResponse,
  type AttendStreamRequestSchema,
  type QueryKeyValue,
} from "./gen/headlight/v1/attention_service_pb.js";
import { TensorKind, type Tensor } from "./gen/headlight/v1/tensor_pb.js";

const CHUNK_BYTES = 128; // many for a small tensor, to show it; send 1 MiB, the most that is allowed

type Golden = {
  name: string;
  request: JsonValue;
  expected?: JsonValue;
  tolerance: number;
  error?: { code: string; fields: string[] };
};
type BadRequest = { fieldViolations: { field: string }[] };

function numbers({ data }: Tensor): number[] {
  if (data.case === "f32Values") return data.value.values;
  if (data.case !== "f32Le" && data.case !== "bf16Le") throw new Error(`no numbers in ${data.case}`);
  const bytes = new DataView(data.value.buffer, data.value.byteOffset, data.value.byteLength);
  if (data.case === "f32Le") return Array.from({ length: bytes.byteLength / 4 }, (_, i) => bytes.getFloat32(4 * i, true));
  const upper = new DataView(new ArrayBuffer(4)); // bfloat16 is half of a float32
  return Array.from({ length: bytes.byteLength / 2 }, (_, i) => {
    upper.setUint16(0, bytes.getUint16(2 * i, true));
    return upper.getFloat32(0);
  });
}

function tensors({ output, logSumExp, headOutputs, maps }: AttendResponse): Tensor[] {
  const weights = maps.map(({ form }) => (form.case === "weights" ? form.value : undefined));
  return [output, logSumExp, headOutputs, ...weights].filter((tensor) => tensor !== undefined);
}

function isClose(got: Tensor, want: Tensor | undefined, tolerance: number): boolean {
  if (!want || String(got.shape) !== String(want.shape)) return false;
  const expected = numbers(want);
  const found = numbers(got);
  return (
    found.length === expected.length &&
    found.every((x, i) => x === expected[i] || Math.abs(x - (expected[i] ?? NaN)) <= tolerance)
  );
}

function answered(answer: AttendResponse, golden: Golden): boolean {
  if (!golden.expected) return false;
  const got = tensors(answer);
  const want = tensors(fromJson(AttendResponseSchema, golden.expected));
  console.log(`${golden.name}: ${answer.execution?.cpuTarget}, ${got.length} tensors, the first of shape`, got[0]?.shape);
  return got.length === want.length && got.every((tensor, i) => isClose(tensor, want[i], golden.tolerance));
}

function refused(failure: ConnectError, { name, error }: Golden): boolean {
  const fields = failure.details.flatMap((detail) =>
    "debug" in detail && detail.type === "google.rpc.BadRequest"
      ? (detail.debug as BadRequest).fieldViolations.map(({ field }) => field)
      : [],
  );
  const code = Code[failure.code]?.replace(/\B[A-Z]/g, "_$&").toUpperCase(); // InvalidArgument
  console.log(`${name}: ${code}, ${String(fields) || failure.rawMessage}`);
  return error?.code === code && String(error?.fields) === String(fields);
}

function bytes(tensor: Tensor | undefined): Uint8Array | undefined {
  return tensor?.data.case === "f32Le" ? tensor.data.value : undefined;
}

type Part = MessageInitShape<typeof AttendStreamRequestSchema>;

// What a stream takes: the call without its tensors' bytes, those in chunks, a commit.
async function* parts({ options, outputs }: AttendRequest, { query, key, value }: QueryKeyValue): AsyncGenerator<Part> {
  const spec = (tensor?: Tensor) => ({ shape: tensor?.shape ?? [], kind: TensorKind.F32 });
  const specs = { query: spec(query), key: spec(key), value: spec(value) };
  const call = { input: { case: "queryKeyValue" as const, value: specs }, options, outputs };
  yield { part: { case: "header", value: { call } } };
  const tensors = { QUERY: bytes(query), KEY: bytes(key), VALUE: bytes(value) };
  for (const name of ["QUERY", "KEY", "VALUE"] as const) {
    const all = tensors[name] ?? new Uint8Array();
    for (let offset = 0; offset < all.length; offset += CHUNK_BYTES) {
      const data = all.subarray(offset, offset + CHUNK_BYTES);
      yield { part: { case: "chunk", value: { tensor: StreamedTensor[name], offset: BigInt(offset), data } } };
    }
  }
  yield { part: { case: "commit", value: {} } };
}

async function streamed(sent: AsyncIterable<Part>, answer: AttendResponse, { name }: Golden): Promise<boolean> {
  let output = new Uint8Array();
  for await (const { part } of streams.attendStream(sent, { timeoutMs: 10_000 })) {
    if (part.case === "acceptance") {
      const shape = part.value.results[0]?.spec?.shape ?? [];
      output = new Uint8Array(shape.reduce((size, axis) => size * Number(axis), 4));
    } else if (part.case === "chunk") {
      output.set(part.value.data, Number(part.value.offset)); // the output, all that was asked for; in any order
    }
  }
  const same = Buffer.compare(output, bytes(answer.output) ?? new Uint8Array()) === 0;
  console.log(`${name}: streamed, the same bits: ${same}`);
  return same;
}

async function check(golden: Golden): Promise<boolean> {
  try {
    const request = fromJson(AttendRequestSchema, golden.request);
    const answer = await client.attend(request, { timeoutMs: 10_000 });
    const good = answered(answer, golden);
    const given = request.input.case === "queryKeyValue" ? request.input.value : undefined;
    if (!good || !given || !bytes(given.query)) return good;
    return await streamed(parts(request, given), answer, golden); // the golden whose Q, K and V are bytes
  } catch (failure) {
    if (failure instanceof ConnectError) return refused(failure, golden);
    throw failure;
  }
}

const [baseUrl = "", grpcUrl = "", ...files] = process.argv.slice(2);
const client = createClient(AttentionService, createConnectTransport({ baseUrl, useBinaryFormat: true }));
const streams = createClient(AttentionService, createGrpcTransport({ baseUrl: grpcUrl }));
let passed = 0;
for (const file of files) passed += Number(await check(JSON.parse(readFileSync(file, "utf8")) as Golden));
const good = passed === files.length && passed > 0;
console.log(`golden check ${good ? "passed" : "failed"}: ${passed} of ${files.length}`);
process.exitCode = good ? 0 : 1;
