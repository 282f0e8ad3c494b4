// Sends golden requests to a Headlight server and compares its answers: node attend.js ADDRESS FILE...
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const definition = loadSync("headlight/v1/attention_service.proto", { includeDirs: ["../../../proto"], longs: Number });
const { AttentionService } = loadPackageDefinition(definition).headlight.v1;
const CHUNK_BYTES = 128; // many for a small tensor, to show it; send 1 MiB, the most that is allowed

function numbers({ f32Le, bf16Le, f32Values }) {
  if (f32Values) return f32Values.values.map(Number); // "-Infinity" is a text in JSON
  if (f32Le) return Array.from({ length: f32Le.length / 4 }, (_, i) => f32Le.readFloatLE(4 * i));
  const upper = (i) => Buffer.from([0, 0, bf16Le[2 * i], bf16Le[2 * i + 1]]); // half of a float32
  return Array.from({ length: bf16Le.length / 2 }, (_, i) => upper(i).readFloatLE());
}

function tensors({ output, logSumExp, headOutputs, maps = [] }) {
  return [output, logSumExp, headOutputs, ...maps.map((map) => map.weights)].filter(Boolean);
}

function isClose(got, want, tolerance) {
  const [a, b] = [numbers(got), numbers(want)];
  return (
    String(got.shape) === String(want.shape) &&
    a.length === b.length &&
    a.every((x, i) => x === b[i] || Math.abs(x - b[i]) <= tolerance)
  );
}

function answered(answer, { name, expected, tolerance }) {
  const [got, want] = [tensors(answer), tensors(expected)];
  console.log(`${name}: ${answer.execution.cpuTarget}, ${got.length} tensors, the first begins with`, numbers(got[0])[0]);
  return got.length === want.length && got.every((tensor, i) => isClose(tensor, want[i], tolerance));
}

// The message names every field. The same as data is in the trailer grpc-status-details-bin, a google.rpc.Status.
function refused(failure, { name, error }) {
  console.log(`${name}: ${status[failure.code]}, ${failure.details}`);
  return error?.code === status[failure.code] && error.fields.every((field) => failure.details.includes(field));
}

function attend(client, request) {
  return new Promise((resolve, reject) => {
    client.Attend(request, { deadline: Date.now() + 10_000 }, (failure, answer) =>
      failure ? reject(failure) : resolve(answer),
    );
  });
}

// What a stream takes: the call without its tensors' bytes, those in chunks, a commit.
function* parts({ queryKeyValue, options, outputs }) {
  const spec = ({ shape }) => ({ shape, kind: "TENSOR_KIND_F32" });
  const { query, key, value } = queryKeyValue;
  const specs = { query: spec(query), key: spec(key), value: spec(value) };
  yield { header: { call: { queryKeyValue: specs, options, outputs } } };
  for (const [name, { f32Le }] of Object.entries({ QUERY: query, KEY: key, VALUE: value })) {
    const bytes = Buffer.from(f32Le, "base64"); // as it stands in the file
    for (let offset = 0; offset < bytes.length; offset += CHUNK_BYTES) {
      const data = bytes.subarray(offset, offset + CHUNK_BYTES);
      yield { chunk: { tensor: `STREAMED_TENSOR_${name}`, offset, data } };
    }
  }
  yield { commit: {} };
}

async function streamed(client, answer, { name, request }) {
  const call = client.AttendStream({ deadline: Date.now() + 10_000 });
  Readable.from(parts(request)).pipe(call);
  let output = Buffer.alloc(0);
  for await (const { acceptance, chunk } of call) {
    if (acceptance) output = Buffer.alloc(4 * acceptance.results[0].spec.shape.reduce((a, b) => a * b));
    // Of the output, the one result that was asked for; in any order. An offset of 0 is left out.
    if (chunk) chunk.data.copy(output, chunk.offset ?? 0);
  }
  const same = output.equals(answer.output.f32Le);
  console.log(`${name}: streamed, the same bits: ${same}`);
  return same;
}

async function check(client, golden) {
  try {
    const answer = await attend(client, golden.request);
    const good = Boolean(golden.expected) && answered(answer, golden);
    const given = golden.request.queryKeyValue?.query.f32Le; // one golden gives Q, K and V as bytes
    return good && given ? await streamed(client, answer, golden) : good;
  } catch (failure) {
    return refused(failure, golden);
  }
}

const [address, ...files] = process.argv.slice(2);
const client = new AttentionService(address, credentials.createInsecure(), {
  "grpc.service_config": readFileSync("../service_config.json", "utf8"),
  "grpc.max_receive_message_length": 256 << 20, // gRPC's own limit is 4 MiB
  "grpc.per_rpc_retry_buffer_size": 256 << 20,
  "grpc.dns_min_time_between_resolutions_ms": 1000,
});
let passed = 0;
for (const file of files) passed += await check(client, JSON.parse(readFileSync(file, "utf8")));
client.close();
const good = passed === files.length && passed > 0;
console.log(`golden check ${good ? "passed" : "failed"}: ${passed} of ${files.length}`);
process.exitCode = good ? 0 : 1;
